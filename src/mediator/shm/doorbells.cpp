// SPDX-License-Identifier: MIT
#include "mediator/shm/doorbells.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace vgpu {

Doorbells::Doorbells() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_) {
        throw std::system_error(errno, std::generic_category(), "epoll_create1");
    }
}

int Doorbells::add(const GuestMemory& memory, std::vector<std::uint64_t>& ids) {
    const std::uint32_t count = memory.layout().queue_count;
    ids.clear();
    for (std::uint32_t i = 0; i < count; ++i) {
        if (free_ids_.empty()) {
            free_ids_.push_back(queues_.size());
            queues_.push_back(nullptr);
        }
        ids.push_back(free_ids_.back());
        free_ids_.pop_back();
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = ids[i]}};
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, memory.doorbell(i), &event) != 0) {
            const int error = errno;
            unwatch(memory, i);
            free_ids_.insert(free_ids_.end(), ids.begin(), ids.end());
            ids.clear();
            return error;
        }
    }
    return 0;
}

void Doorbells::remove(const GuestMemory& memory, const std::vector<std::uint64_t>& ids) {
    for (const std::uint64_t id : ids) {
        queues_[id] = nullptr;
        free_ids_.push_back(id);
    }
    unwatch(memory, memory.layout().queue_count);
}

// The device holds the same open files: closing the descriptors here leaves them in the set.
void Doorbells::unwatch(const GuestMemory& memory, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, memory.doorbell(i), nullptr);
    }
}

const std::vector<GuestQueue*>& Doorbells::rung() {
    // One call only: doorbells that ring continuously never drain.
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
    rung_.clear();
    for (int i = 0; i < count; ++i) {
        // A doorbell that rang just before it was removed may still be reported.
        if (GuestQueue* const found = queue(events.at(static_cast<std::size_t>(i)).data.u64)) {
            rung_.push_back(found);
        }
    }
    return rung_;
}

}  // namespace vgpu
