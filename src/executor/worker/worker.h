// SPDX-License-Identifier: MIT
//
// The worker side: the process that drives one GPU for the mediator. It polls for jobs without
// pause while there is traffic and for `spin` after the last activity, then sleeps until it is
// woken. It exits when the mediator closes the socket, and is killed when the mediator thread that
// started it exits.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"
#include "executor/backend.h"
#include "executor/worker/records.h"

namespace vgpu::worker {

// Exit statuses of a worker.
inline constexpr int kExitEnded = 0;       // the mediator closed the socket
inline constexpr int kExitNoDevice = 3;    // the greeting contained the reason
inline constexpr int kExitDeviceLost = 4;  // Backend::lost(); another process may succeed
inline constexpr int kExitConfused = 5;    // the mediator sent invalid data

// The worker's ends of the resources that it shares with WorkerProcess.
class Channel {
  public:
    // Takes ownership of the inherited descriptors, makes the process die with the mediator, and
    // ignores the signals meant for the mediator. Fails if no such descriptors were inherited.
    static Result<Channel> open();

    [[nodiscard]] int socket() const { return socket_.get(); }
    [[nodiscard]] WorkerMemory& memory() {
        return *reinterpret_cast<WorkerMemory*>(memory_.data());
    }
    void greet(const Result<DeviceInfo>& device, bool writes_timeline = false) const;
    void wake_mediator() const;
    // Receives pending wake-ups and regions. Returns false if the mediator has disconnected.
    [[nodiscard]] bool mediator_lives();
    // Returns the descriptor received for this region and transfers its ownership; an empty one if
    // this process could not accept it, nullopt if none was received.
    [[nodiscard]] std::optional<Fd> take_region(RegionId region);
    // Whether an invalid message was received. Its descriptors have been closed.
    [[nodiscard]] bool confused() const { return confused_; }

  private:
    struct Offered {
        RegionId region = 0;
        Fd fd;
    };

    Channel(Fd socket, Mapping memory) : socket_(std::move(socket)), memory_(std::move(memory)) {}

    Fd socket_;
    Mapping memory_;
    std::deque<Offered> offered_;
    bool confused_ = false;
};

using MakeBackend = std::function<Result<std::unique_ptr<Backend>>()>;

// Creates the backend, sends the greeting, and runs jobs until there is a reason to exit. Returns
// the exit status. If work is left on the device or the device is lost, it terminates the process
// itself, because a driver may wait forever for such a device.
int run_worker(Channel channel, const MakeBackend& make, std::chrono::microseconds spin);

// main() of a process started as `PROGRAM --gpu-worker INDEX SPIN_US`: drives the CUDA device with
// this index.
int cuda_worker_main(int argc, const char* const* argv);
// The first argument, and all arguments for one device.
inline constexpr const char* kWorkerArgument = "--gpu-worker";
std::vector<std::string> cuda_worker_arguments(int index, std::chrono::microseconds spin);

}  // namespace vgpu::worker
