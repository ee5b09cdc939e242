// SPDX-License-Identifier: MIT
//
// The worker's side: what a process does that drives one GPU for the mediator. It looks for jobs
// without pause while there is traffic and for `spin` after the last of it; then it sleeps until it
// is woken. It ends when the mediator closes the socket, and is killed when the mediator's thread
// that started it is gone.
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

// How a worker ends.
inline constexpr int kExitEnded = 0;       // the mediator closed the socket
inline constexpr int kExitNoDevice = 3;    // it said in its greeting why
inline constexpr int kExitDeviceLost = 4;  // Backend::lost(); another process may have more luck
inline constexpr int kExitConfused = 5;    // what the mediator shares with it makes no sense

// The worker's ends of what WorkerProcess shares with it.
class Channel {
  public:
    // Takes the descriptors over, and makes this process one that ends with the mediator and
    // ignores the signals that are the mediator's. The error: nobody gave it such descriptors.
    static Result<Channel> open();

    [[nodiscard]] int socket() const { return socket_.get(); }
    [[nodiscard]] SharedMemory& memory() {
        return *reinterpret_cast<SharedMemory*>(memory_.data());
    }
    void greet(const Result<DeviceInfo>& device, bool writes_timeline = false) const;
    void wake_mediator() const;
    // Takes what has come: wakes, and regions' descriptors. False: the mediator is gone.
    [[nodiscard]] bool mediator_lives();
    // The descriptor that came for this region, which is then the caller's; an empty one if this
    // process could not take it, and nothing if none has come.
    [[nodiscard]] std::optional<Fd> take_region(RegionId region);
    // Whether something came that the mediator does not send. What it was has been closed.
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

// Makes the backend, greets, and does jobs until there is a reason to end. The exit status. Where
// work was left on the device, or the device is lost, it ends the process itself, because a driver
// may wait for ever for such a device.
int run_worker(Channel channel, const MakeBackend& make, std::chrono::microseconds spin);

// main() of a process that was started as `PROGRAM --gpu-worker INDEX SPIN_US`: drives the CUDA
// device with this index.
int cuda_worker_main(int argc, const char* const* argv);
// The argument that comes first, and all of them for one device.
inline constexpr const char* kWorkerArgument = "--gpu-worker";
std::vector<std::string> cuda_worker_arguments(int index, std::chrono::microseconds spin);

}  // namespace vgpu::worker
