// SPDX-License-Identifier: MIT
#include "mediator/dispatcher.h"

#include <algorithm>
#include <cassert>
#include <string>
#include <utility>

namespace vgpu {
namespace {

// Operations done on the control loop in one turn, so that a long queue of them does not keep it
// from its sockets.
constexpr std::size_t kImmediatePerTurn = 64;

std::string pool_sentence(std::uint8_t pool) {
    const bool letter = (pool >= 'A' && pool <= 'Z') || (pool >= 'a' && pool <= 'z');
    return letter ? std::string("this mediator does not serve pool ") + static_cast<char>(pool)
                  : "the pool is not a letter (byte " + std::to_string(pool) + ")";
}

// Operation and params: the job, or why there is none.
std::variant<Job, Refusal> job_of(const RequestView& request) {
    if ((request.fixed.flags & VGPU_FLAG_ASYNC) != 0) {
        return Refusal{VGPU_ERR_UNSUPPORTED_OPERATION,
                       "this mediator does not support the flag ASYNC"};
    }
    Job job;
    job.opcode = request.fixed.opcode;
    switch (job.opcode) {
        case VGPU_OP_NOP:
        case VGPU_OP_GET_DEVICE_INFO:
            return job;
        case VGPU_OP_CUDA_KERNEL:
            if (request.fixed.param_count != job.params.size()) {
                return Refusal{VGPU_ERR_INVALID_REQUEST,
                               "CUDA_KERNEL takes 2 params, and the request has " +
                                   std::to_string(request.fixed.param_count)};
            }
            job.params = {request.param(0), request.param(1)};
            return job;
        default:
            return Refusal{VGPU_ERR_UNSUPPORTED_OPERATION,
                           "this mediator does not support opcode " + std::to_string(job.opcode)};
    }
}

}  // namespace

Dispatcher::Dispatcher(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
                       EventSink& events, const Clock& clock, const std::function<void()>& wake)
    : settings_(settings),
      events_(events),
      clock_(clock),
      scheduler_(settings.pools.size(), settings.queue, clock) {
    for (auto& backend : backends) {
        devices_.emplace_back().executor = std::make_unique<Executor>(
            std::move(backend), Executor::Options{.spin = settings.spin}, wake);
    }
    for (Scheduler::PoolIndex index = 0; index < settings.pools.size(); ++index) {
        const PoolSettings& pool = settings.pools[index];
        pool_by_id_[static_cast<std::uint8_t>(pool.id)] = index;
        devices_.at(pool.device).pools.push_back(index);
    }
}

std::uint64_t Dispatcher::take_slot() {
    if (free_requests_.empty()) {
        requests_.emplace_back();
        return requests_.size() - 1;
    }
    const std::uint64_t token = free_requests_.back();
    free_requests_.pop_back();
    return token;
}

void Dispatcher::free_slot(std::uint64_t token) {
    requests_[token] = Request{};
    free_requests_.push_back(token);
}

void Dispatcher::refuse(Session& session, Session::Ticket ticket, const RequestInfo& info,
                        std::uint32_t status, std::string sentence) {
    events_.request_refused({.request = info, .status = status, .sentence = sentence});
    session.answer(ticket, Outcome::failure(status, std::move(sentence)));
}

void Dispatcher::submit(Session& session, const vgpu_msg_header& header,
                        std::span<const std::byte> payload) {
    assert(session.flow);
    RequestInfo info{.session = session.id(),
                     .vm_id = header.vm_id,
                     .request_id = header.request_id,
                     .pool = header.pool_id,
                     .priority = header.priority,
                     .opcode = 0};
    const Session::Ticket ticket = session.begin_request(header);
    if (refusing_) {
        refuse(session, ticket, info, VGPU_ERR_MEDIATOR_UNAVAILABLE, "the mediator is stopping");
        return;
    }
    const auto decoded = decode_request(payload);
    if (const auto* const refusal = std::get_if<Refusal>(&decoded)) {
        refuse(session, ticket, info, refusal->code, refusal->sentence);
        return;
    }
    const auto& request = std::get<RequestView>(decoded);
    info.opcode = request.fixed.opcode;
    if (header.priority >= Scheduler::kPriorities) {
        refuse(session, ticket, info, VGPU_ERR_INVALID_REQUEST,
               "priority " + std::to_string(header.priority) + " is not 0, 1 or 2");
        return;
    }
    const auto pool = pool_by_id_[header.pool_id];
    if (!pool) {
        refuse(session, ticket, info, VGPU_ERR_INVALID_POOL, pool_sentence(header.pool_id));
        return;
    }
    auto job = job_of(request);
    if (const auto* const refusal = std::get_if<Refusal>(&job)) {
        refuse(session, ticket, info, refusal->code, refusal->sentence);
        return;
    }
    const std::uint64_t token = take_slot();
    switch (scheduler_.enqueue(*pool, *session.flow, header.priority, token)) {
        case Scheduler::Admission::kAccepted:
            break;
        case Scheduler::Admission::kPoolFull:
            free_slot(token);
            refuse(session, ticket, info, VGPU_ERR_QUEUE_FULL, "the queue of this pool is full");
            return;
        case Scheduler::Admission::kVmFull:
            free_slot(token);
            refuse(session, ticket, info, VGPU_ERR_QUEUE_FULL,
                   "this VM has as many requests queued as it may");
            return;
    }
    Request& slot = requests_[token];
    slot.session = session.shared_from_this();
    slot.ticket = ticket;
    slot.info = info;
    slot.job = std::get<Job>(job);
    slot.job.token = token;
    events_.request_accepted({.request = info});
}

void Dispatcher::close_flow(Scheduler::FlowIndex flow) {
    for (const std::uint64_t token : scheduler_.close_flow(flow)) {
        drop(requests_[token], "its connection is gone", false);
        free_slot(token);
    }
}

void Dispatcher::drop(Request& request, std::string_view why, bool answer) {
    events_.request_dropped({.request = request.info, .why = why, .answered = answer});
    if (answer) {
        request.session->answer(request.ticket,
                                Outcome::failure(VGPU_ERR_MEDIATOR_UNAVAILABLE, std::string(why)));
    }
    request.answered = true;
}

void Dispatcher::give_up(std::string_view why) {
    refusing_ = true;
    for (Scheduler::PoolIndex pool = 0; pool < settings_.pools.size(); ++pool) {
        while (const auto entry = scheduler_.dequeue(pool)) {
            drop(requests_[entry->token], why, true);
            free_slot(entry->token);
        }
    }
    for (Request& request : requests_) {
        if (request.running && !request.answered) {
            drop(request, why, true);
        }
    }
}

std::optional<Scheduler::Entry> Dispatcher::next_for(Device& device) {
    for (std::size_t tried = 0; tried < device.pools.size(); ++tried) {
        const Scheduler::PoolIndex pool = device.pools[device.next_pool];
        device.next_pool = (device.next_pool + 1) % device.pools.size();
        if (auto entry = scheduler_.dequeue(pool)) {
            return entry;
        }
    }
    return std::nullopt;
}

void Dispatcher::start(Device& device, const Scheduler::Entry& entry) {
    Request& request = requests_[entry.token];
    request.waited = entry.waited;
    request.started_at = clock_.now();
    request.running = true;
    last_activity_ = request.started_at;
    ++running_;
    ++device.running;
    events_.request_started({.request = request.info, .waited = request.waited});
    if (device.executor->immediate(request.job.opcode)) {
        Outcome outcome = device.executor->run(request.job);
        --device.running;
        finish(entry.token, std::move(outcome));
    } else {
        device.executor->submit(request.job);
    }
}

void Dispatcher::finish(std::uint64_t token, Outcome outcome) {
    Request& request = requests_[token];
    assert(request.running && running_ > 0);
    --running_;
    if (!request.answered) {
        events_.request_finished({.request = request.info,
                                  .status = outcome.status,
                                  .sentence = outcome.status == VGPU_ERR_NONE ? "" : outcome.data,
                                  .waited = request.waited,
                                  .ran = clock_.now() - request.started_at,
                                  .exec_time_us = outcome.exec_time_us,
                                  .delivered = request.session->open()});
        request.session->answer(request.ticket, std::move(outcome));
    }
    free_slot(token);
}

bool Dispatcher::turn() {
    bool more = false;
    std::size_t immediate_left = kImmediatePerTurn;
    for (Device& device : devices_) {
        ended_.clear();
        device.executor->take_completions(ended_);
        if (!ended_.empty()) {
            last_activity_ = clock_.now();
        }
        for (Completion& completion : ended_) {
            --device.running;
            finish(completion.token, std::move(completion.outcome));
        }
        while (device.running < settings_.slots) {
            if (immediate_left == 0) {
                more = true;
                break;
            }
            const auto entry = next_for(device);
            if (!entry) {
                break;
            }
            --immediate_left;
            start(device, *entry);
        }
    }
    return more;
}

bool Dispatcher::has_completions() const {
    return std::any_of(devices_.begin(), devices_.end(),
                       [](const Device& device) { return device.executor->has_completions(); });
}

void Dispatcher::set_control_waiting(bool waiting) {
    for (const Device& device : devices_) {
        device.executor->set_control_waiting(waiting);
    }
}

}  // namespace vgpu
