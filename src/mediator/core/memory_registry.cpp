// SPDX-License-Identifier: MIT
#include "mediator/core/memory_registry.h"

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "mediator/requests/tokens.h"

namespace vgpu {
namespace {

// Memories per call of settle(). With 64 queues, one takes about 60 us.
constexpr std::size_t kSettlesPerTurn = 1;

}  // namespace

void MemoryRegistry::attach(Session& session, std::shared_ptr<GuestMemory> memory,
                            const vgpu_msg_header& header) {
    const bool ending = std::any_of(ending_.begin(), ending_.end(), [&](const auto& one) {
        return one->memory->same_file(*memory);
    });
    if (ending) {
        attaching_.push_back(
            {.session = session.shared_from_this(), .memory = std::move(memory), .header = header});
        return;
    }
    const bool in_use = std::any_of(served_.begin(), served_.end(), [&](const auto& one) {
        return one.second->memory->same_file(*memory);
    });
    if (in_use) {
        // Two consumers on one ring would each trust what the other wrote.
        refuse(session, header.vm_id, VGPU_HELLO_NOT_ALLOWED);
        return;
    }
    serve(session, std::move(memory), header);
}

void MemoryRegistry::refuse(Session& session, std::uint32_t vm_id, vgpu_hello_status status) {
    context_.events.on_event(
        MemoryRefused{.session = session.id(), .vm_id = vm_id, .status = status});
    session.answer_hello(status, 0);
}

void MemoryRegistry::serve(Session& session, std::shared_ptr<GuestMemory> memory,
                           const vgpu_msg_header& header) {
    std::vector<std::uint64_t> ids;
    if (const int error = doorbells_.add(*memory, ids); error != 0) {
        context_.shortages.report("shared memory is not served: cannot watch its doorbells: " +
                                      std::generic_category().message(error) +
                                      " (fs.epoll.max_user_watches)",
                                  context_.clock.now());
        refuse(session, header.vm_id, VGPU_HELLO_NO_RESOURCES);
        return;
    }
    const auto queues = std::make_shared<GuestQueues>(std::move(memory), session.shared_from_this(),
                                                      context_.vms.at(header.vm_id), next_region_++,
                                                      std::move(ids), header, interrupter_);
    guard_.watch(*queues, [&] { queues->begin_generation(); });
    served_.emplace(session.id(), queues);
    context_.events.on_event(MemoryAttached{.session = session.id(),
                                            .vm_id = header.vm_id,
                                            .size = queues->memory->layout().size,
                                            .queues = queues->memory->layout().queue_count});
    begin(*queues);
    session.answer_hello(VGPU_HELLO_TAKEN, queues->generation);
}

void MemoryRegistry::begin(GuestQueues& queues) {
    queues.flow = context_.scheduler.open_flow(queues.header.vm_id);
    for (GuestQueue& queue : queues.queues) {
        doorbells_.bind(queue);
        pump_.wake(queue);
    }
}

void MemoryRegistry::reset(Session& session) {
    const auto found = served_.find(session.id());
    if (found == served_.end()) {
        return;
    }
    GuestQueues& queues = *found->second;
    context_.count_reset(*queues.vm, queues.queues.size());
    if (queues.resets++ == 0) {
        pump_.stop(queues, "the device was reset");
        pump_.note_if_drained(queues);
    }
}

void MemoryRegistry::detach(Session& session) {
    std::erase_if(attaching_, [&](const Attaching& one) { return one.session.get() == &session; });
    const auto found = served_.find(session.id());
    if (found == served_.end()) {
        return;
    }
    const auto queues = found->second;
    served_.erase(found);
    pump_.stop(*queues, "its connection was closed");
    queues->closed = true;
    doorbells_.remove(*queues->memory, queues->ids);
    ending_.push_back(queues);
    pump_.note_if_drained(*queues);
}

void MemoryRegistry::settle() {
    for (std::size_t left = kSettlesPerTurn; left > 0; --left) {
        const auto queues = pump_.take_drained();
        if (!queues) {
            break;
        }
        drained(*queues);
    }
}

void MemoryRegistry::drained(GuestQueues& queues) {
    if (queues.closed) {
        queues.detaching = queues.devices.size();
        for (const std::size_t device : queues.devices) {
            devices_[device].executor->detach_region(region_token(queues.region), queues.region);
        }
        if (queues.detaching == 0) {
            release(queues.region);
        }
        return;
    }
    VmState& vm = *queues.vm;
    if (vm.connections == 1) {
        vm.free_all = true;
        execution_.free_memory_of(vm);
    }
    guard_.watch(queues, [&] { queues.begin_generation(); });
    const std::size_t resets = std::exchange(queues.resets, 0);
    begin(queues);
    for (std::size_t i = 0; i < resets; ++i) {
        queues.session->answer_reset(queues.generation);
    }
}

void MemoryRegistry::attach_failed(RegionId region, std::size_t device, std::string_view why) {
    const auto found = std::find_if(served_.begin(), served_.end(),
                                    [&](const auto& one) { return one.second->region == region; });
    if (found == served_.end()) {
        return;
    }
    GuestQueues& queues = *found->second;
    queues.attach_failed(device, context_.clock.now());
    const std::string gpu = "GPU " + std::to_string(device);
    context_.shortages.report(
        gpu,
        gpu + " could not map the shared memory of VM " + std::to_string(queues.header.vm_id) +
            "; commands that use it fail, and one per second retries: " + std::string(why),
        context_.clock.now());
}

void MemoryRegistry::region_detached(RegionId region) {
    const auto found = std::find_if(ending_.begin(), ending_.end(),
                                    [&](const auto& one) { return one->region == region; });
    if (found != ending_.end() && --(*found)->detaching == 0) {
        release(region);
    }
}

void MemoryRegistry::release(RegionId region) {
    std::erase_if(ending_, [&](const auto& one) { return one->region == region; });
    for (Attaching& one : std::exchange(attaching_, {})) {
        if (one.session->open()) {
            attach(*one.session, std::move(one.memory), one.header);
        }
    }
}

MemoryRegistry::Shared MemoryRegistry::shared() const {
    Shared all;
    for (const auto& [session, queues] : served_) {
        ++all.devices;
        all.bytes += queues->memory->layout().size;
    }
    return all;
}

}  // namespace vgpu
