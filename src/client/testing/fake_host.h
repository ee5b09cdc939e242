// SPDX-License-Identifier: MIT
//
// Test doubles: the host end of a device's queues. A FakeHost consumes and executes commands in
// shared memory, in steps controlled by the test or in a thread; a FakePort connects to it. For
// claims, each port on a memory acts as a separate process of the VM.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "client/api/device.h"
#include "client/core/api_support.h"
#include "client/core/register_transport.h"
#include "client/queue/queue_port.h"
#include "client/unix/unix_message.h"
#include "ring/consumer.h"
#include "ring/reply.h"

namespace vgpu::client::test {

// Shared memory and the host that serves it. One thread at a time may call step().
class FakeHost {
  public:
    explicit FakeHost(std::uint64_t size = VGPU_SHM_SIZE_MIN, std::uint32_t queues = 2)
        : FakeHost(size, queues, Fd(::memfd_create("fake-host", MFD_CLOEXEC))) {}
    FakeHost(std::uint64_t size, std::uint32_t queues, Fd file)
        : layout_(ring::Layout::compute(size, queues).value()), file_(std::move(file)) {
        if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) {
            throw std::bad_alloc();
        }
        memory_ = std::move(*Mapping::create(file_.get(), size, PROT_READ | PROT_WRITE));
        for (std::uint32_t queue = 0; queue != queues; ++queue) {
            interrupts_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        }
        begin_generation(1);
    }
    FakeHost(const FakeHost&) = delete;
    FakeHost& operator=(const FakeHost&) = delete;
    ~FakeHost() { stop_thread(); }

    // Simulates a restart of the mediator.
    void begin_generation(std::uint64_t number) {
        const std::lock_guard lock(mutex_);
        queues_.clear();
        for (std::uint32_t queue = 0; queue != layout_.queue_count; ++queue) {
            queues_.emplace_back(layout_.queue(base(), queue), layout_);
        }
        layout_.write_header(base(), number);
        attached = true;
    }

    // Executes the visible commands of all queues. While `hold` is set, does not complete them.
    void step() {
        const std::lock_guard lock(mutex_);
        for (std::uint32_t index = 0; index != queues_.size(); ++index) {
            step_queue(index);
        }
    }

    // Calls step() in a thread until stop_thread().
    void start_thread() {
        running_ = true;
        thread_ = std::thread([this] {
            while (running_) {
                step();
                std::this_thread::yield();
            }
        });
    }
    void stop_thread() {
        running_ = false;
        if (thread_.joinable()) {
            thread_.join();
        }
    }

    [[nodiscard]] std::byte* base() const { return memory_.data(); }
    [[nodiscard]] const ring::Layout& layout() const { return layout_; }
    [[nodiscard]] vgpu_queue_control& control(std::uint32_t queue) const {
        return *layout_.queue(base(), queue).control;
    }
    // A path at which this process and its children can open the memory again.
    [[nodiscard]] std::string path() const {
        return "/proc/self/fd/" + std::to_string(file_.get());
    }
    [[nodiscard]] int interrupt(std::uint32_t queue) const { return interrupts_[queue].get(); }
    void interrupt_all() {
        for (const Fd& event : interrupts_) {
            (void)::eventfd_write(event.get(), 1);
        }
    }

    std::atomic<bool> attached{true};
    std::atomic<bool> hold{false};
    std::atomic<std::uint64_t> doorbells{0};
    std::atomic<std::uint64_t> taken{0};
    // Computes the reply to a command. Default: status 0, and the sum for an addition.
    struct Answer {
        std::uint32_t status = 0;
        std::vector<std::uint32_t> results;
        std::string data;
    };
    std::function<Answer(const ring::Record&)> answer = [](const ring::Record& record) {
        Answer made;
        if (record.header().opcode == VGPU_OP_CUDA_KERNEL && record.params().size() == 2) {
            made.results = {record.params()[0] + record.params()[1]};
        }
        return made;
    };

  private:
    struct Served {
        Served(const ring::QueueView& view, const ring::Layout& layout) : consumer(view, layout) {}
        ring::Consumer consumer;
        std::vector<vgpu_record> open;
    };

    void step_queue(std::uint32_t index) {
        Served& served = queues_[index];
        ring::Record record;
        bool interrupt = false;
        for (int records = 0; records != 256; ++records) {
            const ring::Take took = served.consumer.take(record);
            if (took == ring::Take::kReset) {
                interrupt |= complete(served);
                interrupt |= served.consumer.finish_reset();
            }
            if (took != ring::Take::kRecord) {
                break;
            }
            ++taken;
            const Answer made = answer(record);
            (void)ring::write_reply(base(), record.header(), made.status, 7, made.results,
                                    std::as_bytes(std::span(made.data)));
            served.open.push_back(record.header());
        }
        interrupt |= complete(served);
        interrupt |= served.consumer.take_interrupt();
        if (interrupt) {
            (void)::eventfd_write(interrupts_[index].get(), 1);
        }
    }

    bool complete(Served& served) {
        if (hold) {
            return false;
        }
        const std::size_t count = served.open.size();
        served.open.clear();
        return count != 0 && served.consumer.complete(count);
    }

    ring::Layout layout_;
    Fd file_;
    Mapping memory_;
    std::vector<Fd> interrupts_;
    std::mutex mutex_;
    std::vector<Served> queues_;
    std::atomic<bool> running_{false};
    std::thread thread_;
};

class FakeHostInterrupt : public InterruptSource {
  public:
    explicit FakeHostInterrupt(int event) : event_(event) {}
    Expected<void> arm() override { return {}; }
    Expected<bool> wait(Nanoseconds limit) override {
        pollfd entry{event_, POLLIN, 0};
        const timespec time = to_timespec(limit);
        std::uint64_t count = 0;
        return ::ppoll(&entry, 1, &time, nullptr) == 1 &&
               ::read(event_, &count, sizeof count) == sizeof count;
    }

  private:
    int event_;
};

// The connection of one process to a FakeHost, which must outlive it.
class FakePort : public QueuePort {
  public:
    explicit FakePort(FakeHost& host, bool interrupts = true)
        : host_(host),
          interrupts_(interrupts),
          file_(::open(host.path().c_str(), O_RDWR | O_CLOEXEC)),
          memory_(std::move(
              *Mapping::create(file_.get(), host.layout().size, PROT_READ | PROT_WRITE))) {}

    [[nodiscard]] std::byte* base() const override { return memory_.data(); }
    [[nodiscard]] const ring::Layout& layout() const override { return host_.layout(); }
    [[nodiscard]] int claims_file() const override { return file_.get(); }
    void ring_doorbell(std::uint32_t /*queue*/) override { ++host_.doorbells; }
    bool attached() override { return host_.attached; }
    Expected<void> attach() override {
        return host_.attached ? Expected<void>() : no_queues("no mediator serves it");
    }
    std::unique_ptr<InterruptSource> make_interrupt(std::uint32_t queue) override {
        return interrupts_ ? std::make_unique<FakeHostInterrupt>(host_.interrupt(queue)) : nullptr;
    }

  private:
    FakeHost& host_;
    bool interrupts_;
    Fd file_;
    Mapping memory_;
};

// Returns a device of the C API that has only queues. The caller releases it with vgpu_close.
inline vgpu_device* make_device(FakeHost& host, const Waiting& waiting = {},
                                bool interrupts = true) {
    auto* const device = new vgpu_device;
    device->address = "fake";
    device->waiting = waiting;
    device->region =
        std::make_shared<Region>(std::make_unique<FakePort>(host, interrupts), system_clock());
    device->has_interrupt = interrupts;
    return device;
}

}  // namespace vgpu::client::test
