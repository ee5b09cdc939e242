// SPDX-License-Identifier: MIT
//
// FakeApi: an HTTP server on a Unix socket that mocks the mediator's admin API for tests: it
// returns the configured answers and records the requests.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace vgpu::ctl {

class FakeApi {
  public:
    struct Answer {
        unsigned status = 200;
        std::string body;
        // Sent in chunks, one per line; the connection stays open until the peer closes it.
        bool stream = false;
    };
    struct Request {
        std::string line;  // "PATCH /v1/vms/7"
        std::string body;
        std::string content_type;
    };

    // Listens at `socket`; throws if it cannot. The answers are keyed by request line; everything
    // else is answered with 404 and the API's JSON.
    FakeApi(std::string socket, std::map<std::string, Answer> answers);
    FakeApi(const FakeApi&) = delete;
    FakeApi& operator=(const FakeApi&) = delete;
    ~FakeApi();  // NOLINT(bugprone-exception-escape): see there

    [[nodiscard]] const std::string& socket() const { return socket_; }
    // Returns the requests received so far.
    [[nodiscard]] std::vector<Request> requests();
    // Simulates a hung mediator: reads further requests and answers none.
    void fall_silent();

  private:
    std::string socket_;
    std::map<std::string, Answer> answers_;
    std::mutex mutex_;
    std::vector<Request> requests_;
    bool ending_ = false;
    bool silent_ = false;
    std::thread thread_;
};

// Returns the answers of a mediator with one GPU, two pools and two VMs.
std::map<std::string, FakeApi::Answer> usual_answers();

}  // namespace vgpu::ctl
