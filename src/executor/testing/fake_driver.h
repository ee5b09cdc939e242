// SPDX-License-Identifier: MIT
//
// FakeDriver: a CUDA driver for tests, in the form of cuda::Api. It runs the kernels on the host,
// immediately or on request, and fails on request. It shows how the backend uses a driver; only a
// real GPU shows that the real driver behaves the same (cuda_backend_test).
//
// The API's functions have no context argument, so the state is the only live FakeDriver.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "executor/cuda/cuda_api.h"

namespace vgpu::cuda {

class FakeDriver {
  public:
    FakeDriver();
    FakeDriver(const FakeDriver&) = delete;
    FakeDriver& operator=(const FakeDriver&) = delete;
    // Fails the test if the backend left anything allocated, unless the context was lost: its
    // resources are then freed with the process.
    ~FakeDriver();

    [[nodiscard]] Api api() const;

    int device_count = 1;
    bool can_write_words = true;  // the functions exist
    bool words_arrive = true;     // and have an effect
    bool hold_streams = false;    // work is queued until run_streams()
    bool has_pools = true;        // memory pools exist
    Status init_status = kSuccess;
    Status next_launch = kSuccess;  // each applies to one call, then becomes kSuccess again
    Status next_mem_info = kSuccess;
    Status next_memset = kSuccess;
    Status next_word = kSuccess;
    Status next_register = kSuccess;
    std::size_t memory_left = std::size_t{64} << 20U;
    // Status returned by every function that works in a context. As with the real driver, it
    // applies for the lifetime of the process. May be set while another thread drives the backend.
    std::atomic<Status> sticky = kSuccess;

    // Runs the queued work, stream by stream, youngest first, because only events order streams.
    void run_streams();
    // Runs one item: of the youngest or the oldest stream whose next item is not blocked. Returns
    // false if there is none.
    bool run_one(bool of_youngest);
    // Runs the next `count` items in the order of their submission.
    void run_some(std::size_t count);
    [[nodiscard]] std::size_t held_work() const { return work.size(); }
    [[nodiscard]] std::size_t registered() const { return registered_.size(); }
    [[nodiscard]] int live_objects() const { return live_; }

    // Used by the functions of the table.
    Status allocate(std::size_t bytes, DeviceAddress& address);
    // `waits`: for all running work, as the real driver does.
    Status release(DeviceAddress address, bool waits);
    void release_host(void* address);
    struct Item {
        Stream stream;
        std::function<void()> run;
        std::shared_ptr<bool> needs;  // blocked until this is true; null: never blocked
    };
    void enqueue(Stream stream, std::function<void()> item, std::shared_ptr<bool> needs = nullptr);
    [[nodiscard]] Status query(Stream stream) const;
    std::deque<Item> work;
    std::map<std::byte*, std::size_t> registered_;  // bytes
    std::uintptr_t next_stream_ = 0x3000;
    std::uintptr_t next_event_ = 0x9000;
    std::map<Event, std::shared_ptr<bool>> events_;  // whether the last record has been reached
    std::list<std::vector<std::byte>> blocks_;       // device memory
    std::set<void*> host_blocks_;                    // pinned memory
    std::string image_;                              // of the module loaded last
    int live_ = 0;
    int retained = 0;
};

}  // namespace vgpu::cuda
