// SPDX-License-Identifier: MIT
//
// The part of the Dispatcher that manages shared memory: from a hello until nothing accesses the
// memory any more.
//
//   attach ── memory is not in use ────▶ served ── disconnect ───────▶ closed ── nothing in flight,
//      │                                 ▲    │                                   all detached
//      └── an earlier connection's work  │    └─ SHM_RESET ─▶ stopped ─┐                │
//          is in flight: waits ──────────┘◀─── nothing in flight ──────┘                ▼
//                                                                                   released
//
// A generation begins only in memory to which no device can still write for the previous one.
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "mediator/core/dispatcher.h"
#include "mediator/core/dispatcher_tokens.h"

namespace vgpu {
namespace {

// Time for which memory that blocked the control loop is rejected, doubled each time.
constexpr std::chrono::seconds kRefuseMemory{10};
constexpr unsigned kMostDoublings = 7;
// After this many offenses, by any of its VMs, all memory of that user is rejected.
constexpr unsigned kTimesOfUser = 3;
constexpr std::size_t kMostBlocked = 1024;
constexpr std::chrono::seconds kAttachAgain{1};

}  // namespace

void Dispatcher::attach(Session& session, std::shared_ptr<GuestMemory> memory,
                        const vgpu_msg_header& header) {
    const bool taken = std::any_of(ending_.begin(), ending_.end(), [&](const auto& one) {
        return one->memory->same_file(*memory);
    });
    if (taken) {
        attaching_.push_back(
            {.session = session.shared_from_this(), .memory = std::move(memory), .header = header});
        return;
    }
    const bool in_use = std::any_of(memories_.begin(), memories_.end(), [&](const auto& one) {
        return one.second->memory->same_file(*memory);
    });
    if (in_use) {
        // Two consumers on one ring would each trust what the other wrote.
        events_.on_event(MemoryRefused{
            .session = session.id(), .vm_id = header.vm_id, .status = VGPU_HELLO_NOT_ALLOWED});
        session.answer_hello(VGPU_HELLO_NOT_ALLOWED, 0);
        return;
    }
    serve(session, std::move(memory), header);
}

void Dispatcher::judge_touches(GuestQueues& queues) {
    clock_.next();
    // The loop may have blocked on something else: only punched holes shrink the file.
    const std::int64_t blocks = queues.memory->blocks();
    const bool punched = blocks < queues.most_blocks;
    queues.most_blocks = std::max(queues.most_blocks, blocks);
    if (!touches_.blames(clock_.now()) || !punched) {
        return;
    }
    const auto refuse = [this](Blocked& one) {
        one.times = std::min(one.times + 1, kMostDoublings);
        one.until = clock_.now() + kRefuseMemory * (1U << (one.times - 1));
    };
    if (blocked_vms_.size() >= kMostBlocked) {
        blocked_vms_.erase(blocked_vms_.begin());
    }
    refuse(blocked_vms_[queues.header.vm_id]);
    Blocked& user = blocked_users_[queues.session->peer().uid];
    if (++user.times > kTimesOfUser) {
        user.until = clock_.now() + kRefuseMemory;
    }
    queues.session->close_soon(
        CloseReason::kMemoryBlocks,
        "its shared memory made the mediator wait, because its process punches holes into it");
}

bool Dispatcher::may_share_memory(const Session& session) const {
    const auto allowed = [this](const auto& blocked, auto key) {
        const auto found = blocked.find(key);
        return found == blocked.end() || found->second.until <= clock_.now();
    };
    return allowed(blocked_vms_, session.vm_id().value()) &&
           allowed(blocked_users_, session.peer().uid);
}

void Dispatcher::finish_attaching() {
    for (Attaching& one : std::exchange(attaching_, {})) {
        if (one.session->open()) {
            attach(*one.session, std::move(one.memory), one.header);
        }
    }
}

void Dispatcher::serve(Session& session, std::shared_ptr<GuestMemory> memory,
                       const vgpu_msg_header& header) {
    const std::uint32_t count = memory->layout().queue_count;
    std::vector<std::uint64_t> ids;
    ids.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        if (free_queue_ids_.empty()) {
            free_queue_ids_.push_back(queue_by_id_.size());
            queue_by_id_.push_back(nullptr);
        }
        ids.push_back(free_queue_ids_.back());
        free_queue_ids_.pop_back();
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        // Edge-triggered: each ring is reported once, and the counter need never be read, which
        // could block at the peer's will.
        epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = ids[i]}};
        if (::epoll_ctl(doorbells_.get(), EPOLL_CTL_ADD, memory->doorbell(i), &event) != 0) {
            const int error = errno;
            forget_doorbells(*memory, i);
            free_queue_ids_.insert(free_queue_ids_.end(), ids.begin(), ids.end());
            shortages_.say("shared memory is not served, because doorbells cannot be waited for: " +
                               std::generic_category().message(error) +
                               " (fs.epoll.max_user_watches)",
                           clock_.now());
            events_.on_event(MemoryRefused{
                .session = session.id(), .vm_id = header.vm_id, .status = VGPU_HELLO_NO_RESOURCES});
            session.answer_hello(VGPU_HELLO_NO_RESOURCES, 0);
            return;
        }
    }
    const auto queues = std::make_shared<GuestQueues>(std::move(memory), session.shared_from_this(),
                                                      vms_.at(header.vm_id), next_region_++,
                                                      std::move(ids), header, interrupter_);
    memories_.emplace(session.id(), queues);
    events_.on_event(MemoryAttached{.session = session.id(),
                                    .vm_id = header.vm_id,
                                    .size = queues->memory->layout().size,
                                    .queues = count});
    begin_again(*queues);
    session.answer_hello(VGPU_HELLO_TAKEN, queues->generation);
}

void Dispatcher::begin_again(GuestQueues& queues) {
    queues.flow = scheduler_.open_flow(queues.header.vm_id);
    for (GuestQueue& queue : queues.queues) {
        queue_by_id_[queue.id] = &queue;
        wake(queue);
    }
}

void Dispatcher::on_doorbells() {
    check_thread();
    // One call only: doorbells that ring continuously never drain. The rest stays readable.
    std::array<epoll_event, 64> rung{};
    const int count = ::epoll_wait(doorbells_.get(), rung.data(), static_cast<int>(rung.size()), 0);
    for (int i = 0; i < count; ++i) {
        // A doorbell that rang just before it was closed may still be reported.
        const std::uint64_t id = rung.at(static_cast<std::size_t>(i)).data.u64;
        if (id < queue_by_id_.size() && queue_by_id_[id] != nullptr) {
            wake(*queue_by_id_[id]);
        }
    }
}

// The device holds the same open files: closing the descriptors here leaves them in the set.
void Dispatcher::forget_doorbells(const GuestMemory& memory, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
        ::epoll_ctl(doorbells_.get(), EPOLL_CTL_DEL, memory.doorbell(i), nullptr);
    }
}

void Dispatcher::stop_queues(GuestQueues& queues, std::string_view why) {
    if (queues.flow) {
        for (const std::uint64_t token : scheduler_.close_flow(*queues.flow)) {
            drop_head(*queue_by_id_[queue_of_token(token)], why, false);
        }
        queues.flow.reset();
    }
    std::erase_if(stalled_, [&](const GuestQueue* queue) { return queue->owner == &queues; });
    std::erase(awake_, &queues);
    std::erase(held_, &queues);
    queues.listed = false;
    awake_queues_ -= queues.awake.size();
    queues.awake.clear();
    for (GuestQueue& queue : queues.queues) {
        if (queue.head) {
            drop_head(queue, why, false);
        }
        queue.awake = false;
        if (queue.consumer.stop(VGPU_QUEUE_ERR_CLOSED)) {
            queue.interrupt();
        }
    }
}

void Dispatcher::reset_queues(Session& session) {
    const auto found = memories_.find(session.id());
    if (found == memories_.end()) {
        return;
    }
    GuestQueues& queues = *found->second;
    count_refusal(*queues.vm);
    if (queues.resets++ > 0) {
        return;
    }
    stop_queues(queues, "the device was reset");
    if (queues.running == 0) {
        drained_.push_back(found->second);
    }
}

void Dispatcher::detach(Session& session) {
    std::erase_if(attaching_, [&](const Attaching& one) { return one.session.get() == &session; });
    const auto found = memories_.find(session.id());
    if (found == memories_.end()) {
        return;
    }
    const auto queues = found->second;
    memories_.erase(found);
    stop_queues(*queues, "its connection is gone");
    queues->closed = true;
    for (const std::uint64_t id : queues->ids) {
        queue_by_id_[id] = nullptr;
        free_queue_ids_.push_back(id);
    }
    forget_doorbells(*queues->memory, queues->memory->layout().queue_count);
    ending_.push_back(queues);
    if (queues->running == 0) {
        drained_.push_back(queues);
    }
}

void Dispatcher::settle_drained() {
    while (!drained_.empty()) {
        for (const auto& queues : std::exchange(drained_, {})) {
            drained(*queues);
        }
    }
}

void Dispatcher::drained(GuestQueues& queues) {
    if (queues.closed) {
        queues.detaching = queues.devices.size();
        for (const std::size_t device : queues.devices) {
            devices_[device].executor->detach_region(region_token(queues.region), queues.region);
        }
        if (queues.detaching == 0) {
            queues.detaching = 1;
            region_detached(queues.region);
        }
        return;
    }
    VmState& vm = *queues.vm;
    if (vm.connections == 1) {
        vm.free_all = true;
        free_memory_of(vm);
    }
    queues.begin_generation();
    const std::size_t resets = std::exchange(queues.resets, 0);
    begin_again(queues);
    for (std::size_t i = 0; i < resets; ++i) {
        queues.session->answer_reset(queues.generation);
    }
}

// Commands submitted in the meantime fail; those after the back-off retry.
void Dispatcher::attach_failed(RegionId region, std::size_t device, std::string_view why) {
    const auto found = std::find_if(memories_.begin(), memories_.end(),
                                    [&](const auto& one) { return one.second->region == region; });
    if (found == memories_.end()) {
        return;
    }
    GuestQueues& queues = *found->second;
    std::erase(queues.devices, device);
    queues.attach_again[device] = clock_.now() + kAttachAgain;
    const std::string gpu = "GPU " + std::to_string(device);
    shortages_.say(
        gpu,
        gpu + " could not be given the shared memory of VM " + std::to_string(queues.header.vm_id) +
            "; commands that need it fail, and one a second tries again: " + std::string(why),
        clock_.now());
}

void Dispatcher::region_detached(RegionId region) {
    const auto found = std::find_if(ending_.begin(), ending_.end(),
                                    [&](const auto& one) { return one->region == region; });
    if (found == ending_.end() || --(*found)->detaching > 0) {
        return;
    }
    ending_.erase(found);
    finish_attaching();
}

std::uint64_t Dispatcher::bytes_copied_by_processor() const {
    std::uint64_t bytes = 0;
    for (const Device& device : devices_) {
        bytes += device.executor->bytes_copied_by_processor();
    }
    return bytes;
}

Dispatcher::Shared Dispatcher::shared() const {
    Shared all;
    for (const auto& [session, queues] : memories_) {
        ++all.devices;
        all.bytes += queues->memory->layout().size;
    }
    return all;
}

}  // namespace vgpu
