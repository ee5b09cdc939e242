// SPDX-License-Identifier: MIT
//
// FakeApi: an HTTP server on a Unix socket that plays the mediator's admin API for tests: it
// answers what it was told to and keeps what it was asked.
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
        // Sent in chunks, one for each line, and the connection stays open until the other side
        // closes.
        bool stream = false;
    };
    struct Request {
        std::string line;  // "PATCH /v1/vms/7"
        std::string body;
        std::string content_type;
    };

    // Listens at `socket`; throws if it cannot. The answers stand by request line; everything else
    // is answered with 404 and the API's JSON.
    FakeApi(std::string socket, std::map<std::string, Answer> answers);
    FakeApi(const FakeApi&) = delete;
    FakeApi& operator=(const FakeApi&) = delete;
    ~FakeApi();  // NOLINT(bugprone-exception-escape): see there

    [[nodiscard]] const std::string& socket() const { return socket_; }
    // What has been asked so far.
    [[nodiscard]] std::vector<Request> requests();
    // From now on it takes requests and answers none, as a mediator that hangs.
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

// The answers of a mediator with one GPU, two pools and two VMs.
std::map<std::string, FakeApi::Answer> usual_answers();

}  // namespace vgpu::ctl
