// SPDX-License-Identifier: MIT
//
// Admission: whether a request or a command of a queue is accepted, checked in the order of
// docs/protocol.md, section 5, once for both:
//
//   of_vm()      the mediator is stopping, limits of the VM
//   (decoder)    length and header fields of a request: decode_request()
//   of_target()  priority, pool
//   (decoder)    operation and params: decode_operation(), decode_command()
//   enqueue()    queue
//
// The first failed check determines the error. Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "executor/job.h"
#include "ipc/request.h"
#include "mediator/core/context.h"
#include "mediator/devices/placement.h"
#include "mediator/events/events.h"
#include "mediator/vms/vm_state.h"
#include "vgpu_protocol.h"

namespace vgpu {

class Admission {
  public:
    // Borrows both.
    Admission(Context& context, Placement& placement) : context_(context), placement_(placement) {}

    // Describes a request: with the pool and priority that the settings impose on its VM, or else
    // those of the header.
    [[nodiscard]] RequestInfo describe(std::uint64_t session, const vgpu_msg_header& header,
                                       std::uint32_t request_id, std::uint32_t opcode) const;

    // Each check returns the error, or nothing if it passed. of_vm() consumes the VM's budget.
    [[nodiscard]] std::optional<Outcome> of_vm(VmState& vm) {
        if (!context_.stopping && !vm.limits.any()) {
            return std::nullopt;
        }
        return limited(vm);
    }
    [[nodiscard]] std::optional<Outcome> of_target(const RequestInfo& info) const {
        if (info.priority < Scheduler::kPriorities && placement_.pool(info.pool)) {
            return std::nullopt;
        }
        return no_target(info);
    }
    // For SYNCHRONIZE, which waits in its VM's order and not in a queue.
    [[nodiscard]] std::optional<Outcome> of_synchronize(const VmState& vm,
                                                        std::uint32_t vm_id) const;

    // Returns the scheduler's level of a request: its priority, and one more if it asks to be
    // boosted and may be.
    [[nodiscard]] std::size_t level_of(const RequestInfo& info, std::uint32_t flags) const;
    // Returns the index of its pool. Precondition: of_target() passed.
    [[nodiscard]] std::size_t pool_of(const RequestInfo& info) const {
        return *placement_.pool(info.pool);
    }
    // Appends a token to its queue. Precondition: of_target() passed.
    Scheduler::Admission enqueue(VmState& vm, const RequestInfo& info, Scheduler::FlowIndex flow,
                                 std::size_t level, std::uint64_t token);
    // Returns the error of a result of enqueue(). Precondition: it is not kAccepted.
    static Outcome full(Scheduler::Admission admission);

    // Returns the error of a decoder as an outcome.
    static Outcome outcome_of(const Refusal& refusal) {
        return Outcome::failure(refusal.code, refusal.message);
    }
    // Reports a rejected request and charges its VM. The caller answers it.
    void refused(VmState& vm, const RequestInfo& info, const Outcome& outcome);

  private:
    [[nodiscard]] std::optional<Outcome> limited(VmState& vm) const;
    [[nodiscard]] static Outcome no_target(const RequestInfo& info);

    Context& context_;
    Placement& placement_;
};

}  // namespace vgpu
