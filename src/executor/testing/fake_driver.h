// SPDX-License-Identifier: MIT
//
// FakeDriver: a CUDA driver for tests, in the shape of cuda::Api. It runs the kernels on the host,
// at once or when told to, and fails where told to. It shows how the backend treats a driver;
// that the real one behaves so, only a real GPU shows (cuda_backend_test).
//
// The API's functions have no context argument, so the state is the one FakeDriver alive.
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
    // Fails the test if the backend left anything allocated, unless the context was lost: what it
    // held goes with the process.
    ~FakeDriver();

    [[nodiscard]] Api api() const;

    int device_count = 1;
    bool can_write_words = true;  // the functions are there
    bool words_arrive = true;     // and do what they say
    bool hold_streams = false;    // work waits for run_streams()
    bool has_pools = true;        // of memory
    Status init_status = kSuccess;
    Status next_launch = kSuccess;  // each is taken by one call, then kSuccess again
    Status next_mem_info = kSuccess;
    Status next_memset = kSuccess;
    Status next_word = kSuccess;
    Status next_register = kSuccess;
    std::size_t memory_left = std::size_t{64} << 20U;
    // What every function that works in a context gives from now on, as the real one does for as
    // long as the process lives. May be set while another thread drives the backend.
    std::atomic<Status> sticky = kSuccess;

    // Does the work that the streams hold: stream by stream, the youngest first, because nobody may
    // rely on an order between them but by events.
    void run_streams();
    // Does one piece of it: of the youngest or of the oldest stream that has one which waits for
    // nothing. False: there is none.
    bool run_one(bool of_youngest);
    // Does the next `count` pieces of it, in the order in which they were given.
    void run_some(std::size_t count);
    [[nodiscard]] std::size_t held_work() const { return work.size(); }
    [[nodiscard]] std::size_t registered() const { return registered_.size(); }
    [[nodiscard]] int live_objects() const { return live_; }

    // For the functions of the table.
    Status allocate(std::size_t bytes, DeviceAddress& address);
    // `waits`: for all that runs, as the real one does.
    Status release(DeviceAddress address, bool waits);
    void release_host(void* address);
    struct Item {
        Stream stream;
        std::function<void()> run;
        std::shared_ptr<bool> needs;  // waits until that is true; null: for nothing
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
