// SPDX-License-Identifier: MIT
#include "cli/vgpuctl/testing/fake_api.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <sstream>
#include <utility>

namespace vgpu::ctl {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Local = asio::local::stream_protocol;

void answer_stream(Local::socket& peer, const FakeApi::Answer& answer) {
    boost::system::error_code error;
    http::response<http::empty_body> head{http::status::ok, 11};
    head.set(http::field::content_type, "application/x-ndjson");
    head.chunked(true);
    http::response_serializer<http::empty_body> serializer(head);
    http::write_header(peer, serializer, error);
    std::istringstream lines(answer.body);
    for (std::string line; std::getline(lines, line);) {
        line += '\n';
        asio::write(peer, http::make_chunk(asio::buffer(line)), error);
    }
    char byte = 0;
    peer.read_some(asio::buffer(&byte, 1), error);
}

}  // namespace

FakeApi::FakeApi(std::string socket, std::map<std::string, Answer> answers)
    : socket_(std::move(socket)), answers_(std::move(answers)) {
    // Listen before the constructor returns; the thread takes over the listener.
    auto io = std::make_unique<asio::io_context>();
    auto listener = std::make_unique<Local::acceptor>(*io, Local::endpoint(socket_));
    thread_ = std::thread([this, io = std::move(io), listener = std::move(listener)] {
        std::vector<Local::socket> unanswered;
        for (;;) {
            Local::socket peer(*io);
            boost::system::error_code error;
            listener->accept(peer, error);
            {
                const std::lock_guard lock(mutex_);
                if (ending_ || error) {
                    return;
                }
            }
            beast::flat_buffer buffer;
            http::request<http::string_body> request;
            http::read(peer, buffer, request, error);
            if (error) {
                continue;
            }
            std::string line(request.method_string());
            line += ' ';
            line += std::string(request.target());
            {
                const std::lock_guard lock(mutex_);
                requests_.push_back(
                    {.line = line,
                     .body = request.body(),
                     .content_type = std::string(request[http::field::content_type])});
                if (silent_) {
                    unanswered.push_back(std::move(peer));
                    continue;
                }
            }
            const auto found = answers_.find(line);
            const Answer answer =
                found != answers_.end()
                    ? found->second
                    : Answer{.status = 404,
                             .body = R"({"error":{"code":"not_found","message":"There is no such )"
                                     R"(path."}})"};
            if (answer.stream) {
                answer_stream(peer, answer);
                continue;
            }
            http::response<http::string_body> response;
            response.version(11);
            response.result(answer.status);
            response.set(http::field::content_type, "application/json");
            response.body() = answer.body;
            response.prepare_payload();
            http::write(peer, response, error);
        }
    });
}

// A test that cannot end its thread should terminate.
// NOLINTNEXTLINE(bugprone-exception-escape)
FakeApi::~FakeApi() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    // Wakes the thread blocked in accept().
    asio::io_context io;
    Local::socket wake(io);
    boost::system::error_code ignored;
    wake.connect(Local::endpoint(socket_), ignored);
    thread_.join();
}

std::vector<FakeApi::Request> FakeApi::requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
}

void FakeApi::fall_silent() {
    const std::lock_guard lock(mutex_);
    silent_ = true;
}

std::map<std::string, FakeApi::Answer> usual_answers() {
    const std::string vm7 =
        R"({"id":7,"connected":true,"connections":1,"file_requests":0,"pool":"B","priority":"high",)"
        R"("overrides":{"pool":"B","priority":null},"user":0,"weight":2.5,"boost":false,)"
        R"("queue_depth":64,)"
        R"("queued":3,"running":1,"memory_used":1048576,"limits":{"requests_per_second":0,)"
        R"("burst":50,"gpu_time_ms_per_window":200,"gpu_window_ms":1000,)"
        R"("quarantine_after_faults":10,"longest_execution_ms":0,"memory_bytes":0},)"
        R"("throttled":false,"throttled_us":2500000,)"
        R"("quarantined":false,"faults":2,"requests":{"accepted":12,"done":9,"failed":1,)"
        R"("refused":4,"limited":5,"dropped":0,"overran":0},"gpu_time_us":1500,)"
        R"("wait_mean_us":850.5,"wait_max_us":12300})";
    const std::string vm8 =
        R"({"id":8,"connected":false,"connections":0,"file_requests":0,"pool":null,"priority":null,)"
        R"("overrides":{"pool":null,"priority":null},"user":null,"weight":1,"boost":true,)"
        R"("queue_depth":256,)"
        R"("queued":0,"running":0,"memory_used":0,"limits":{"requests_per_second":500,)"
        R"("burst":20,"gpu_time_ms_per_window":0,"gpu_window_ms":1000,)"
        R"("quarantine_after_faults":0,"longest_execution_ms":0,"memory_bytes":0},)"
        R"("throttled":false,"throttled_us":0,)"
        R"("quarantined":true,"faults":0,"requests":{"accepted":0,"done":0,"failed":0,)"
        R"("refused":0,"limited":0,"dropped":0,"overran":0},"gpu_time_us":0,)"
        R"("wait_mean_us":0,"wait_max_us":0})";
    const std::string pool_a = R"({"id":"A","gpus":[0],"policy":"strict","aging_ms":10000,)"
                               R"("queued":{"low":1,"medium":2,"high":3},"running":1,"vms":2})";
    const std::string pool_b = R"({"id":"B","gpus":[0,1],"policy":"fair","aging_ms":0,)"
                               R"("queued":{"low":0,"medium":0,"high":0},"running":0,"vms":0})";
    return {
        {"GET /v1/status",
         {.body = R"({"version":"9.8.7","uptime_s":3725.5,"state":"running","backend":"cpu",)"
                  R"("sockets":["/run/vgpu/mediator.sock"],"connections":3,"queued":6,"running":1,)"
                  R"("requests":{"accepted":12,"done":9,"failed":1,"refused":4,"limited":5,)"
                  R"("dropped":0},"faults":2,"loop_latency_us":{"events":1500.5,"queues":21.25,)"
                  R"("completions":20.0},"config_file":null})"}},
        {"GET /v1/gpus",
         {.body = R"({"gpus":[{"index":0,"name":"Fake GPU","backend":"cpu","state":"ok",)"
                  R"("pools":["A","B"],"slots":2,"running":1,"memory_total":2147483648,)"
                  R"("memory_free":1073741824,"busy_share":0.454,"recoveries":3}]})"}},
        {"GET /v1/pools", {.body = R"({"pools":[)" + pool_a + "," + pool_b + "]}"}},
        {"GET /v1/pools/A", {.body = pool_a}},
        {"PATCH /v1/pools/A", {.body = pool_a}},
        {"GET /v1/vms", {.body = R"({"vms":[)" + vm7 + "," + vm8 + "]}"}},
        {"GET /v1/vms/7", {.body = vm7}},
        {"PATCH /v1/vms/7", {.body = vm7}},
        {"POST /v1/vms/7/quarantine", {.body = vm7}},
        {"POST /v1/vms/7/release",
         {.status = 409,
          .body = R"({"error":{"code":"not_quarantined","message":"VM 7 is not quarantined."}})"}},
        {"PATCH /v1/vms/8",
         {.status = 422,
          .body = R"({"error":{"code":"bad_value","message":"Give a number from 1 on.",)"
                  R"("field":"limits.burst"}})"}},
        {"GET /v1/vms/99",
         {.status = 404,
          .body = R"({"error":{"code":"unknown_vm","message":"There is no VM 99."}})"}},
        {"POST /v1/drain", {.status = 202, .body = R"({"state":"draining"})"}},
        {"POST /v1/reload",
         {.body = R"({"changed":["limits.burst: 20 -> 40"],"not_applied":["mediator.sockets"]})"}},
        {"GET /metrics",
         {.body = "# HELP vgpu_connections Open.\n# TYPE vgpu_connections gauge\n"
                  "vgpu_connections 3\nvgpu_faults_total{vm=\"7\"} 2\n"}},
        {"GET /v1/events?vm=7&type=request_finished",
         {.body = R"({"time":"2026-01-02T03:04:05.000006Z","event":"request_finished","vm":7,)"
                  R"("session":1,"request_id":4,"wait_us":12,"exec_us":3400,"status":0})"
                  "\n",
          .stream = true}},
    };
}

}  // namespace vgpu::ctl
