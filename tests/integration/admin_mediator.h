// SPDX-License-Identifier: MIT
//
// AdminMediator: a mediator with its admin API in the test process.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "integration/held_backend.h"
#include "integration/test_mediator.h"
#include "mediator/admin/api.h"
#include "mediator/admin/mediator_control.h"
#include "mediator/admin/metrics.h"
#include "mediator/admin/server.h"
#include "support/http_peer.h"

namespace vgpu::test {

using nlohmann::json;

class AdminMediator {
  public:
    struct Options {
        Settings settings;
        AdminServer::Options server;
        std::function<ReloadOutcome()> reload = [] { return ReloadOutcome{}; };
        bool metrics_port = false;
    };
    AdminMediator() : AdminMediator(Options()) {}
    explicit AdminMediator(const Options& options)
        : io_(1),
          metrics_(pool_ids(options.settings)),
          fan_out_({&events, &counters_, &stream_, &metrics_}),
          mediator_(
              std::make_unique<Mediator>(io_, options.settings, backends(hold), fan_out_, clock_)),
          control_({.mediator = *mediator_,
                    .counters = counters_,
                    .events = fan_out_,
                    .clock = clock_,
                    .sockets = {path()},
                    .config_file = "",
                    .only_gpu = 0,
                    .reload = options.reload,
                    .suppressed_lines = [] { return std::uint64_t{0}; }}),
          api_(control_, metrics_),
          server_(std::make_unique<AdminServer>(io_, api_, stream_, clock_, options.server)) {
        mediator_->add_listener(UnixListener::create(path()).value());
        EXPECT_TRUE(server_->listen(UnixListener::create(admin_path()).value()));
        if (options.metrics_port) {
            port = server_->listen_metrics({.host = "127.0.0.1", .port = 0}).value();
        }
        thread_ = std::thread([this] { mediator_->run(); });
    }
    AdminMediator(const AdminMediator&) = delete;
    AdminMediator& operator=(const AdminMediator&) = delete;
    ~AdminMediator() {
        if (thread_.joinable()) {
            boost::asio::post(io_, [this] {
                mediator_->begin_shutdown();
                mediator_->begin_shutdown();
            });
            thread_.join();
        }
        server_.reset();
    }

    [[nodiscard]] std::string path() const { return dir_.file("s"); }
    [[nodiscard]] std::string admin_path() const { return dir_.file("a"); }
    [[nodiscard]] HttpPeer admin() const { return HttpPeer::connect(admin_path()); }
    [[nodiscard]] WirePeer connect(std::uint32_t vm_id, char pool = 'A',
                                   std::uint8_t priority = VGPU_PRIORITY_MEDIUM) const {
        WirePeer peer = WirePeer::connect(path());
        peer.vm_id = vm_id;
        peer.pool = pool;
        peer.priority = priority;
        return peer;
    }
    // Formats the metrics on the control loop.
    std::string text_of(const Metrics& metrics) {
        std::promise<std::string> text;
        boost::asio::post(io_, [&] {
            std::string written;
            const auto more = metrics.writer(control_);
            while (more(written)) {
            }
            text.set_value(written);
        });
        return text.get_future().get();
    }
    // Returns once run() has returned.
    void join() { thread_.join(); }

    EventRecorder events;
    std::shared_ptr<Hold> hold = std::make_shared<Hold>();
    std::uint16_t port = 0;

  private:
    static std::vector<char> pool_ids(const Settings& settings) {
        std::vector<char> ids;
        for (const PoolSettings& pool : settings.pools) {
            ids.push_back(pool.id);
        }
        return ids;
    }
    static std::vector<std::unique_ptr<Backend>> backends(const std::shared_ptr<Hold>& hold) {
        std::vector<std::unique_ptr<Backend>> made;
        made.push_back(std::make_unique<HeldBackend>(hold));
        return made;
    }

    TempDir dir_;
    SteadyClock clock_;
    boost::asio::io_context io_;
    Counters counters_;
    EventStream stream_;
    Metrics metrics_;
    EventFanOut fan_out_;
    std::unique_ptr<Mediator> mediator_;
    MediatorControl control_;
    AdminApi api_;
    std::unique_ptr<AdminServer> server_;
    std::thread thread_;
};

}  // namespace vgpu::test
