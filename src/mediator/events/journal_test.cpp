// SPDX-License-Identifier: MIT
#include "mediator/events/journal.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <string>

#include "base/fd.h"
#include "mediator/events/event_log.h"
#include "mediator/events/log_output.h"
#include "support/temp_dir.h"
#include "support/unix_socket.h"

namespace vgpu {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Fields = std::vector<std::string>;

// Mock of the system's journal: records what it receives, and can be slow or reject entries.
struct FakeJournal {
    // Returns a sender that shares ownership, because a send that hangs outlives the Journal.
    static Journal::Send sender(const std::shared_ptr<FakeJournal>& journal) {
        return [journal](std::span<const iovec> fields) { return journal->take(fields); };
    }
    int take(std::span<const iovec> fields) {
        if (slow) {
            begun.release();
            continue_turn.acquire();
        }
        const std::lock_guard lock(mutex);
        Fields entry;
        for (const iovec& field : fields) {
            entry.emplace_back(static_cast<const char*>(field.iov_base), field.iov_len);
        }
        entries.push_back(entry);
        return result;
    }
    // Returns the first field of each entry, in order.
    std::vector<std::string> messages() {
        const std::lock_guard lock(mutex);
        std::vector<std::string> found;
        for (const Fields& entry : entries) {
            found.push_back(entry.front());
        }
        return found;
    }

    std::atomic<bool> slow = false;
    std::atomic<int> result = 0;
    std::counting_semaphore<> begun{0};
    std::counting_semaphore<> continue_turn{0};
    std::mutex mutex;
    std::vector<Fields> entries;
};

struct JournalTest : testing::Test {
    std::shared_ptr<FakeJournal> fake = std::make_shared<FakeJournal>();
    std::optional<Journal> journal;

    void open(Journal::Limits limits = {}) { journal.emplace(FakeJournal::sender(fake), limits); }
    // Closes the journal and returns all entries, in order.
    std::vector<Fields> close() {
        journal.reset();
        return fake->entries;
    }
};

TEST_F(JournalTest, AnEntryHasMessagePriorityIdentifierAndItsFields) {
    open();
    journal->write(LOG_WARNING, "hello", {{"VGPU_VM", "7"}, {"VGPU_EVENT", "notice"}});
    EXPECT_EQ(close(), (std::vector<Fields>{{"MESSAGE=hello", "PRIORITY=4",
                                             "SYSLOG_IDENTIFIER=vgpu-mediator", "VGPU_VM=7",
                                             "VGPU_EVENT=notice"}}));
}

TEST_F(JournalTest, EntriesKeepTheirOrderAndNoneIsLostAtTheEnd) {
    open();
    for (int i = 0; i < 1000; ++i) {
        journal->write(LOG_INFO, std::to_string(i), {});
    }
    const auto entries = close();
    ASSERT_EQ(entries.size(), 1000U);
    for (std::size_t i = 0; i < entries.size(); ++i) {
        ASSERT_EQ(entries[i].front(), "MESSAGE=" + std::to_string(i));
    }
}

TEST_F(JournalTest, AJournalThatTakesNothingHoldsUpNobodyAndWhatDidNotFitIsCounted) {
    fake->slow = true;
    open({.bytes = 1000, .farewell = seconds(20)});
    journal->write(LOG_INFO, "first", {});
    fake->begun.acquire();  // the first send is blocked
    const std::string hundred(100, 'x');
    for (int i = 0; i < 500; ++i) {
        journal->write(LOG_INFO, hundred, {});
    }
    fake->slow = false;
    fake->continue_turn.release();
    const auto entries = close();
    // An entry is "MESSAGE=" and 100 bytes, plus 41 bytes of other fields.
    EXPECT_EQ(entries.size(), 1 + 6 + 1);
    EXPECT_EQ(entries.back().front(),
              "MESSAGE=494 lines are missing here: the journal did not accept them in time");
    EXPECT_EQ(entries.back().at(1), "PRIORITY=4");
}

TEST_F(JournalTest, WhatIsMissingIsSaidWhereItIsMissing) {
    fake->slow = true;
    open({.bytes = 200, .farewell = seconds(20)});
    journal->write(LOG_INFO, "first", {});
    fake->begun.acquire();
    journal->write(LOG_INFO, std::string(200, 'x'), {});
    // There is room again when the second send begins, because the first entry has been written.
    journal->write(LOG_INFO, "second", {});
    fake->continue_turn.release();
    fake->begun.acquire();
    fake->slow = false;
    fake->continue_turn.release();
    close();
    EXPECT_EQ(fake->messages(),
              (std::vector<std::string>{
                  "MESSAGE=first",
                  "MESSAGE=1 lines are missing here: the journal did not accept them in time",
                  "MESSAGE=second"}));
}

TEST_F(JournalTest, TheEndDoesNotWaitForAJournalThatHangs) {
    fake->slow = true;
    open({.bytes = 1000, .farewell = milliseconds(1)});
    journal->write(LOG_INFO, "first", {});
    fake->begun.acquire();
    journal->write(LOG_INFO, "second", {});
    journal.reset();  // returns, or the test times out
    EXPECT_TRUE(fake->messages().empty());
    // The thread ends without a second send, and then releases its reference to the fake.
    fake->continue_turn.release();
    const auto limit = std::chrono::steady_clock::now() + seconds(10);
    while (fake.use_count() > 1 && std::chrono::steady_clock::now() < limit) {
        std::this_thread::yield();
    }
    EXPECT_EQ(fake.use_count(), 1);
    EXPECT_EQ(fake->messages(), std::vector<std::string>{"MESSAGE=first"});
}

TEST_F(JournalTest, WhatTheJournalRefusesGoesToStandardError) {
    fake->result = -ECONNREFUSED;
    testing::internal::CaptureStderr();
    open();
    journal->write(LOG_INFO, "ready", {{"VGPU_VM", "7"}});
    close();
    EXPECT_EQ(testing::internal::GetCapturedStderr(),
              "vgpu-mediator: ready (the journal rejected this line: Connection refused)\n");
}

TEST_F(JournalTest, ALoggersLevelsBecomePriorities) {
    {
        spdlog::logger logger(
            "test", std::make_shared<JournalSink>(FakeJournal::sender(fake), Journal::Limits{}));
        logger.set_level(spdlog::level::debug);
        logger.trace("not said");
        logger.debug("a");
        logger.info("b {}", 1);
        logger.warn("c");
        logger.error("d");
        logger.critical("e");
    }
    std::vector<std::string> said;
    for (const Fields& entry : fake->entries) {
        said.push_back(entry.at(0) + " " + entry.at(1));
    }
    EXPECT_EQ(said, (std::vector<std::string>{"MESSAGE=a PRIORITY=7", "MESSAGE=b 1 PRIORITY=6",
                                              "MESSAGE=c PRIORITY=4", "MESSAGE=d PRIORITY=3",
                                              "MESSAGE=e PRIORITY=2"}));
}

// Does not advance, so no budget of log lines refills.
class StillClock final : public Clock {
  public:
    [[nodiscard]] std::chrono::nanoseconds now() const override { return {}; }
};

struct EventsInTheJournal : testing::Test {
    std::shared_ptr<FakeJournal> fake = std::make_shared<FakeJournal>();
    StillClock clock;
    std::unique_ptr<EventLog> log;
    RequestInfo request{
        .session = 4, .vm_id = 7, .request_id = 31, .pool = 'B', .priority = 2, .opcode = 9};

    EventsInTheJournal() {
        auto sink = std::make_shared<JournalSink>(FakeJournal::sender(fake), Journal::Limits{});
        auto logger = std::make_shared<spdlog::logger>("test", sink);
        logger->set_level(spdlog::level::debug);
        log = std::make_unique<EventLog>(std::move(logger),
                                         LogLimits{.lines_per_second = 1, .burst = 5}, clock,
                                         std::move(sink));
    }
    // Returns the entries without the identifier that each has.
    std::vector<Fields> close() {
        log.reset();
        for (Fields& entry : fake->entries) {
            EXPECT_EQ(std::erase(entry, "SYSLOG_IDENTIFIER=vgpu-mediator"), 1U);
        }
        return fake->entries;
    }
};

TEST_F(EventsInTheJournal, ARequestsFieldsSayWhoseItIsAndHowItEnded) {
    log->on_event(RequestFinished{.request = request,
                                  .status = 0xF4,
                                  .message = "no such handle",
                                  .waited = milliseconds(2),
                                  .ran = milliseconds(1),
                                  .exec_time_us = 40,
                                  .delivered = true});
    const std::string message =
        "MESSAGE=conn=4 vm=7 req=31 pool=B prio=2 op=9 failed with error 0xf4: no such handle";
    EXPECT_EQ(close(), (std::vector<Fields>{{message, "PRIORITY=4", "VGPU_EVENT=request_finished",
                                             "VGPU_CONNECTION=4", "VGPU_VM=7", "VGPU_REQUEST=31",
                                             "VGPU_POOL=B", "VGPU_PRIORITY=high", "VGPU_OPCODE=9",
                                             "VGPU_STATUS=244", "VGPU_ERROR=invalid-handle",
                                             "VGPU_WAIT_US=2000", "VGPU_RUN_US=1000"}}));
}

TEST_F(EventsInTheJournal, EachKindHasItsNameAndTheFieldsThatItHas) {
    log->on_event(SessionOpened{.session = 4, .socket = "/s", .pid = 1, .uid = 2});
    log->on_event(SessionClosed{.session = 5,
                                .vm_id = std::nullopt,
                                .reason = CloseReason::kPeerClosed,
                                .detail = "the peer closed"});
    log->on_event(VmQuarantined{.vm_id = 9, .faults = 3});
    log->on_event(VmQuarantined{.vm_id = 9, .faults = 0, .by_operator = true});
    log->on_event(Notice{.text = "no descriptors"});
    log->on_event(
        GpuState{.gpu = 1, .change = GpuState::Change::kFailed, .why = "gone", .down_for = {}});
    EXPECT_EQ(close(),
              (std::vector<Fields>{{"MESSAGE=conn=4 opened on /s by pid 1 uid 2", "PRIORITY=7",
                                    "VGPU_EVENT=session_opened", "VGPU_CONNECTION=4"},
                                   {"MESSAGE=conn=5 closed: the peer closed", "PRIORITY=6",
                                    "VGPU_EVENT=session_closed", "VGPU_CONNECTION=5"},
                                   {"MESSAGE=vm=9 quarantined after 3 faults", "PRIORITY=4",
                                    "VGPU_EVENT=vm_quarantined", "VGPU_VM=9"},
                                   {"MESSAGE=vm=9 quarantined by the operator", "PRIORITY=4",
                                    "VGPU_EVENT=vm_quarantined", "VGPU_VM=9"},
                                   {"MESSAGE=no descriptors", "PRIORITY=4", "VGPU_EVENT=notice"},
                                   {"MESSAGE=gpu=1 failed and is being reset: gone", "PRIORITY=3",
                                    "VGPU_EVENT=notice", "VGPU_GPU=1"}}));
}

// Covers every byte that a guest sends as a number, and every text that may come from elsewhere.
TEST_F(EventsInTheJournal, NothingInAnEventForgesALineOrAField) {
    request.pool = '\n';
    request.priority = 0x1b;
    const std::string evil("x\nVGPU_VM=1\r\x1b[2J\x7f\xc2\x9by");
    log->on_event(RequestRefused{.request = request, .status = 6, .message = evil});
    log->on_event(SessionClosed{
        .session = 4, .vm_id = 7, .reason = CloseReason::kProtocolViolation, .detail = evil});
    log->on_event(RequestDropped{.request = request, .why = evil, .answered = false});
    const auto entries = close();
    ASSERT_EQ(entries.size(), 3U);
    for (const Fields& entry : entries) {
        EXPECT_EQ(std::count(entry.begin(), entry.end(), "VGPU_VM=7"), 1);
        EXPECT_NE(entry.front().find("x\\x0aVGPU_VM=1\\x0d\\x1b[2J\\x7f\\xc2\\x9by"),
                  std::string::npos)
            << entry.front();
        for (const std::string& field : entry) {
            EXPECT_FALSE(field.starts_with("VGPU_VM=1"));
            EXPECT_TRUE(std::all_of(field.begin(), field.end(), [](char c) {
                return c >= 0x20 && c < 0x7f;
            })) << field;
        }
    }
    EXPECT_EQ(std::count(entries[0].begin(), entries[0].end(), "VGPU_POOL=10"), 1);
    EXPECT_EQ(std::count(entries[0].begin(), entries[0].end(), "VGPU_PRIORITY=27"), 1);
}

TEST_F(EventsInTheJournal, TheBudgetHoldsThereTooAndWhatWasLeftOutIsUnderItsVm) {
    for (int i = 0; i < 100; ++i) {
        log->on_event(RequestRefused{.request = request, .status = 6, .message = "no such pool"});
    }
    const auto entries = close();
    ASSERT_EQ(entries.size(), 6U);
    EXPECT_EQ(entries.back(), (Fields{"MESSAGE=vm=7: suppressed 95 lines", "PRIORITY=4",
                                      "VGPU_SUPPRESSED=95", "VGPU_VM=7"}));
}

TEST(JournalStream, IsTheDescriptorThatTheVariableNames) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Fd reader(ends[0]);
    const Fd writer(ends[1]);
    struct stat info {};
    ASSERT_EQ(::fstat(writer.get(), &info), 0);
    const auto named = [&](const std::string& journal_stream) {
        return is_journal_stream(writer.get(), journal_stream.c_str());
    };
    const auto device = static_cast<std::uint64_t>(info.st_dev);
    const auto inode = static_cast<std::uint64_t>(info.st_ino);
    EXPECT_TRUE(named(fmt::format("{}:{}", device, inode)));
    EXPECT_FALSE(named(fmt::format("{}:{}", device, inode + 1)));
    EXPECT_FALSE(named(fmt::format("{}:{}", device + 1, inode)));
    EXPECT_FALSE(named(fmt::format("{}:{}x", device, inode)));
    EXPECT_FALSE(named(fmt::format("{} :{}", device, inode)));
    EXPECT_FALSE(named(fmt::format("-{}:{}", device, inode)));
    EXPECT_FALSE(named(fmt::format("{}:{}99999999999999999999", device, inode)));
    EXPECT_FALSE(named(fmt::format("{}:", device)));
    EXPECT_FALSE(named(fmt::format("{}", device)));
    EXPECT_FALSE(named(":"));
    EXPECT_FALSE(named(""));
    EXPECT_FALSE(is_journal_stream(writer.get(), nullptr));
    EXPECT_FALSE(is_journal_stream(-1, fmt::format("{}:{}", device, inode).c_str()));
}

TEST(JournalAnswers, WhereSomebodyListens) {
    const test::TempDir dir;
    const std::string path = dir.file("socket");
    EXPECT_FALSE(journal_answers(path.c_str()));
    {
        const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        const sockaddr_un address = test::unix_address(path);
        ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
                  0);
        EXPECT_TRUE(journal_answers(path.c_str()));
    }
    EXPECT_FALSE(journal_answers(path.c_str()));  // the file remains, no process listens
    EXPECT_FALSE(journal_answers(std::string(200, 'x').c_str()));
}

}  // namespace
}  // namespace vgpu
