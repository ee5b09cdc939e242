// SPDX-License-Identifier: MIT
#include "mediator/core/admission.h"

#include "mediator/config/names.h"

namespace vgpu {

RequestInfo Admission::describe(std::uint64_t session, const vgpu_msg_header& header,
                                std::uint32_t request_id, std::uint32_t opcode) const {
    const VmSettings& vm = context_.settings.vm(header.vm_id);
    return {.session = session,
            .vm_id = header.vm_id,
            .request_id = request_id,
            .pool = static_cast<std::uint8_t>(vm.pool.value_or(static_cast<char>(header.pool_id))),
            .priority = vm.priority.value_or(header.priority),
            .opcode = opcode};
}

std::optional<Outcome> Admission::limited(VmState& vm) const {
    if (context_.stopping) {
        return Outcome::failure(VGPU_ERR_MEDIATOR_UNAVAILABLE, "the mediator is stopping");
    }
    const auto verdict = vm.limits.admit(context_.clock.now());
    if (verdict == VmLimits::Verdict::kAllowed) {
        return std::nullopt;
    }
    return limit_outcome(verdict);
}

Outcome Admission::no_target(const RequestInfo& info) {
    if (info.priority >= Scheduler::kPriorities) {
        return Outcome::failure(VGPU_ERR_INVALID_REQUEST,
                                "priority " + std::to_string(info.priority) + " is not 0, 1 or 2");
    }
    return Outcome::failure(VGPU_ERR_INVALID_POOL, pool_error_text(info.pool));
}

std::optional<Outcome> Admission::of_synchronize(const VmState& vm, std::uint32_t vm_id) const {
    if (vm.order.waiting() < context_.share_of(vm_id).queue_depth) {
        return std::nullopt;
    }
    return full(Scheduler::Admission::kVmFull);
}

std::size_t Admission::level_of(const RequestInfo& info, std::uint32_t flags) const {
    const bool boosted = (flags & VGPU_FLAG_BOOST) != 0 && context_.settings.vm(info.vm_id).boost &&
                         info.priority < VGPU_PRIORITY_HIGH;
    return info.priority + (boosted ? 1U : 0U);
}

Scheduler::Admission Admission::enqueue(VmState& vm, const RequestInfo& info,
                                        Scheduler::FlowIndex flow, std::size_t level,
                                        std::uint64_t token) {
    const std::size_t pool = pool_of(info);
    if (placement_.full(pool)) {
        return Scheduler::Admission::kPoolFull;
    }
    return context_.scheduler.enqueue(placement_.queue_of(vm.placement, pool).index, flow, level,
                                      token);
}

Outcome Admission::full(Scheduler::Admission admission) {
    return Outcome::failure(VGPU_ERR_QUEUE_FULL,
                            admission == Scheduler::Admission::kPoolFull
                                ? "the queue of this pool is full"
                                : "this VM has reached its limit of queued requests");
}

void Admission::refused(VmState& vm, const RequestInfo& info, const Outcome& outcome) {
    context_.events.on_event(
        RequestRefused{.request = info, .status = outcome.status, .message = outcome.data});
    if (is_vm_fault(outcome.status)) {
        context_.limits.count_fault(info.vm_id);
    }
    context_.count_refusal(vm);
}

}  // namespace vgpu
