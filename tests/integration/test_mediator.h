// SPDX-License-Identifier: MIT
//
// TestMediator: a Mediator on its own thread in the test process, with one socket, a backend
// controlled by the test, and a record of its events.
#pragma once

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "integration/held_backend.h"
#include "ipc/unix_listener.h"
#include "mediator/events/counters.h"
#include "mediator/events/events.h"
#include "mediator/loop/mediator.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::test {

struct RecordedEvent {
    enum class Kind : std::uint8_t {
        kOpened,
        kIdentified,
        kClosed,
        kAccepted,
        kStarted,
        kFinished,
        kRefused,
        kDropped,
        kOverran,
        kQuarantined,
        kReleased,
        kGpuFailed,
        kGpuRecovered,
        kNotice,
    };
    Kind kind;
    SessionId session = 0;
    std::uint32_t vm_id = 0;
    std::uint32_t request_id = 0;
    std::uint32_t status = 0;
    CloseReason reason = CloseReason::kPeerClosed;
    std::string text;
};

// Records all events. Written by the control loop, read by the test.
class EventRecorder final : public EventSink {
  public:
    using Kind = RecordedEvent::Kind;

    [[nodiscard]] std::vector<RecordedEvent> all() const {
        const std::lock_guard lock(mutex_);
        return events_;
    }
    // Returns the request_id of each event of this kind, in order.
    [[nodiscard]] std::vector<std::uint32_t> request_ids(Kind kind) const {
        std::vector<std::uint32_t> ids;
        for (const RecordedEvent& event : all()) {
            if (event.kind == kind) {
                ids.push_back(event.request_id);
            }
        }
        return ids;
    }
    [[nodiscard]] std::vector<RecordedEvent> of(Kind kind) const {
        std::vector<RecordedEvent> found;
        for (const RecordedEvent& event : all()) {
            if (event.kind == kind) {
                found.push_back(event);
            }
        }
        return found;
    }
    // Waits for `count` events of this kind. Returns false on time-out.
    bool wait_for(Kind kind, std::size_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(20), [&] {
            std::size_t found = 0;
            for (const RecordedEvent& event : events_) {
                found += event.kind == kind ? 1 : 0;
            }
            return found >= count;
        });
    }

    void on_event(const Event& event) override { dispatch(*this, event); }
    void on(const SessionOpened& event) {
        add({.kind = Kind::kOpened, .session = event.session, .text = std::string(event.socket)});
    }
    void on(const SessionIdentified& event) {
        add({.kind = Kind::kIdentified,
             .session = event.session,
             .vm_id = event.vm_id,
             .text = {}});
    }
    void on(const SessionClosed& event) {
        add({.kind = Kind::kClosed,
             .session = event.session,
             .vm_id = event.vm_id.value_or(0),
             .reason = event.reason,
             .text = std::string(event.detail)});
    }
    void on(const RequestAccepted& event) { add(about(Kind::kAccepted, event.request, 0, {})); }
    void on(const RequestStarted& event) { add(about(Kind::kStarted, event.request, 0, {})); }
    void on(const RequestFinished& event) {
        add(about(Kind::kFinished, event.request, event.status, event.message));
    }
    void on(const RequestRefused& event) {
        add(about(Kind::kRefused, event.request, event.status, event.message));
    }
    void on(const RequestDropped& event) {
        add(about(Kind::kDropped, event.request, 0, event.why));
    }
    void on(const RequestOverran& event) { add(about(Kind::kOverran, event.request, 0, {})); }
    void on(const VmQuarantined& event) {
        add({.kind = Kind::kQuarantined, .vm_id = event.vm_id, .text = {}});
    }
    void on(const VmReleased& event) {
        add({.kind = Kind::kReleased, .vm_id = event.vm_id, .text = {}});
    }
    void on(const Notice& event) { add({.kind = Kind::kNotice, .text = std::string(event.text)}); }
    void on(const GpuState& event) {
        add({.kind =
                 event.change == GpuState::Change::kFailed ? Kind::kGpuFailed : Kind::kGpuRecovered,
             .text = std::string(event.why)});
    }

  private:
    static RecordedEvent about(Kind kind, const RequestInfo& request, std::uint32_t status,
                               std::string_view text) {
        return {.kind = kind,
                .session = request.session,
                .vm_id = request.vm_id,
                .request_id = request.request_id,
                .status = status,
                .text = std::string(text)};
    }
    void add(RecordedEvent event) {
        const std::lock_guard lock(mutex_);
        events_.push_back(std::move(event));
        changed_.notify_all();
    }

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<RecordedEvent> events_;
};

class TestMediator {
  public:
    // Creates one backend per entry of settings.gpus, at least one. `immediate`: uses CpuBackend
    // itself, which completes jobs immediately. `clock` may be null; otherwise it is borrowed.
    explicit TestMediator(const Settings& settings = {}, bool immediate = false,
                          const Clock* clock = nullptr)
        : io_(1), fan_out_({&events, &counters_}) {
        std::vector<std::unique_ptr<Backend>> backends;
        for (std::size_t gpu = 0; gpu < std::max<std::size_t>(1, settings.gpus.size()); ++gpu) {
            holds.push_back(gpu == 0 ? hold : std::make_shared<Hold>());
            if (immediate) {
                backends.push_back(std::make_unique<CpuBackend>());
            } else {
                backends.push_back(std::make_unique<HeldBackend>(holds.back()));
            }
        }
        mediator_ = std::make_unique<Mediator>(io_, settings, std::move(backends), fan_out_,
                                               clock != nullptr ? *clock : clock_);
        mediator_->add_listener(UnixListener::create(path()).value());
        thread_ = std::thread([this] { mediator_->run(); });
    }
    TestMediator(const TestMediator&) = delete;
    TestMediator& operator=(const TestMediator&) = delete;
    ~TestMediator() {
        if (thread_.joinable()) {
            begin_shutdown();
            begin_shutdown();
            thread_.join();
        }
    }

    [[nodiscard]] std::string path() const { return dir_.file("s"); }
    [[nodiscard]] WirePeer connect(std::uint32_t vm_id, char pool = 'A',
                                   std::uint8_t priority = VGPU_PRIORITY_MEDIUM) const {
        WirePeer peer = WirePeer::connect(path());
        peer.vm_id = vm_id;
        peer.pool = pool;
        peer.priority = priority;
        return peer;
    }

    void begin_shutdown() {
        boost::asio::post(io_, [this] { mediator_->begin_shutdown(); });
    }
    // Runs `what` on the control loop.
    void on_loop(std::function<void(Mediator&)> what) {
        boost::asio::post(io_, [this, what = std::move(what)] { what(*mediator_); });
    }
    // Returns once run() has returned.
    void join() { thread_.join(); }
    // Precondition: joined.
    [[nodiscard]] const Counters& counters() const { return counters_; }

    EventRecorder events;
    std::shared_ptr<Hold> hold = std::make_shared<Hold>();
    std::vector<std::shared_ptr<Hold>> holds;  // by GPU; the first is `hold`

  private:
    TempDir dir_;
    SteadyClock clock_;
    boost::asio::io_context io_;
    Counters counters_;
    EventFanOut fan_out_;
    std::unique_ptr<Mediator> mediator_;
    std::thread thread_;
};

}  // namespace vgpu::test
