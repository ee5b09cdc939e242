// SPDX-License-Identifier: MIT
//
// Fuzzer: libvgpu against a hostile mediator (liar.h). An input is two scripts: what the mediator
// sends, stores and closes, and what the program calls. Every call must return within its time
// limit, whatever it receives, and all resources must be released.
#include <array>
#include <memory>
#include <vector>

#include "client/api/raw.h"
#include "client/include/vgpu.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/liar.h"

namespace vgpu::fuzz {
namespace {

constexpr std::uint32_t kHelloTimeoutMs = 10;
// Tolerance beyond a call's limits on a busy machine.
constexpr std::chrono::milliseconds kSlack{3000};
constexpr std::size_t kMostCalls = 24;
// vgpu_heap_alloc has no time limit from its caller, but waits at most twice five seconds.
constexpr unsigned kHeapAlloc = 10;
constexpr std::chrono::seconds kHeapAllocLimit{10};

// Limits the total time of the calls in its scope.
class Limit {
  public:
    explicit Limit(const char* what, std::chrono::milliseconds limit = kSlack)
        : what_(what), limit_(limit) {}
    Limit(const Limit&) = delete;
    Limit& operator=(const Limit&) = delete;
    ~Limit() { check(Clock::now() - begin_ < limit_, what_); }

  private:
    const char* what_;
    std::chrono::milliseconds limit_;
    Clock::time_point begin_ = Clock::now();
};

class Program {
  public:
    Program(Input input, Liar& liar) : input_(input), liar_(liar) {}
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;
    ~Program() {
        // With a live mediator, closing a queue may take two seconds: keep it rare.
        if (input_.byte() != 0xFF) {
            liar_.stop();
        }
        const Limit limit("vgpu_queue_close and vgpu_close took too long");
        vgpu_queue_close(queue_);
        vgpu_close(device_);
    }

    void run() {
        open();
        for (std::size_t call = 0; call < kMostCalls && !input_.empty() && device_ != nullptr;
             ++call) {
            const std::uint8_t what = input_.byte();
            timeout_ms_ = what >> 6U;
            if ((what & 32U) == 0) {
                const Limit limit("a call with a time limit took too long");
                call_device(what & 31U);
            } else {
                const unsigned which = what & 31U;
                const Limit limit("a call of a queue took too long",
                                  which == kHeapAlloc ? kSlack + kHeapAllocLimit : kSlack);
                call_queue(which);
            }
        }
    }

  private:
    void open() {
        const std::uint8_t shape = input_.byte();
        vgpu_options options = VGPU_OPTIONS_INIT;
        const std::string address = "unix:" + liar_.path();
        options.address = address.c_str();
        options.vm_id = Liar::kVmId;
        options.wait_mode = static_cast<int>((shape & 3U) % 3);
        options.spin_us = (shape & 4U) != 0 ? 50 : 0;
        options.shm_size = (shape & 24U) != 0 ? std::uint64_t{VGPU_SHM_SIZE_MIN} : 0;
        options.queue_count = 1 + (shape >> 5U) % 2;
        options.hello_timeout_ms = kHelloTimeoutMs;
        const Limit limit("vgpu_open took too long");
        code(vgpu_open(&options, &device_, &why_));
        check(device_ == nullptr || why_.code == 0, "a device was given in spite of an error");
    }

    // A failure must fill `why_`.
    void code(int result) {
        check(result == VGPU_OK || (why_.code == result && why_.message[0] != '\0'),
              "an error without a text");
    }

    void call_device(unsigned what) {
        switch (what) {
            case 0:
                code(vgpu_nop(device_, timeout_ms_, &why_));
                break;
            case 1: {
                std::uint32_t sum = 0;
                code(vgpu_add(device_, 1, 2, timeout_ms_, &sum, &why_));
                break;
            }
            case 2: {
                vgpu_gpu_info info{};
                if (vgpu_device_info(device_, timeout_ms_, &info, &why_) == VGPU_OK) {
                    check(std::memchr(info.name, 0, sizeof info.name) != nullptr,
                          "a name without an end");
                }
                break;
            }
            case 3:
                code(vgpu_alloc(device_, 4096, timeout_ms_, &handle_, &why_));
                break;
            case 4:
                code(vgpu_free(device_, handle_, timeout_ms_, &why_));
                break;
            case 5:
                code(
                    vgpu_copy_to(device_, handle_, 0, bytes_.data(), length(), timeout_ms_, &why_));
                break;
            case 6:
                code(vgpu_copy_from(device_, handle_, 0, bytes_.data(), length(), timeout_ms_,
                                    &why_));
                break;
            case 7:
                code(vgpu_synchronize(device_, timeout_ms_, &why_));
                break;
            case 8:
                submit();
                break;
            case 9:
                code(vgpu_wait(device_, timeout_ms_, &reply_, &why_));
                check_reply();
                break;
            case 10:
                code(vgpu_drain(device_, timeout_ms_, &why_));
                break;
            case 11:
                code(vgpu_wait_interrupt(device_, timeout_ms_, &why_));
                break;
            case 12:
                call();
                break;
            case 13: {
                const std::uint8_t raw = input_.byte();
                code(vgpu_submit_bytes(device_, bytes_.data(), 1 + raw, nullptr, &why_));
                break;
            }
            case 14: {
                std::uint32_t sum = 0;
                code(vgpu_reduce_sum(device_, VGPU_TYPE_I32, handle_, 1, timeout_ms_, &sum, &why_));
                break;
            }
            case 15: {
                vgpu_properties properties{};
                code(vgpu_get_properties(device_, &properties, &why_));
                break;
            }
            default:
                // Let the mediator continue its script.
                liar_.settle();
                break;
        }
    }
    std::size_t length() { return input_.byte() * std::size_t{16}; }

    vgpu_command command() {
        vgpu_command made{};
        made.opcode = input_.word();
        made.flags = input_.byte() & 3U;
        made.params = params_.data();
        made.param_count = static_cast<std::uint32_t>(input_.below(8));
        return made;
    }
    void submit() {
        const vgpu_command made = command();
        std::uint32_t id = 0;
        code(vgpu_submit(device_, &made, &id, &why_));
    }
    void call() {
        const vgpu_command made = command();
        code(vgpu_call(device_, &made, timeout_ms_, &reply_, &why_));
        check_reply();
    }
    void check_reply() const {
        check(reply_.result_count <= VGPU_MAX_RESULTS && reply_.data_length <= VGPU_MAX_DATA,
              "a reply is longer than its room");
    }

    void call_queue(unsigned what) {
        if (what == 0 || queue_ == nullptr) {
            if (queue_ == nullptr) {
                code(vgpu_queue_open(device_, VGPU_QUEUE_ANY, timeout_ms_, &queue_, &why_));
            }
            return;
        }
        switch (what) {
            case 1:
                code(vgpu_queue_push_nop(queue_, place(), &point_, &why_));
                break;
            case 2:
                code(vgpu_queue_push_add(queue_, 1, 2, place(), &point_, &why_));
                break;
            case 3:
                code(vgpu_queue_flush(queue_, &why_));
                break;
            case 4:
                code(vgpu_queue_wait(queue_, point_, timeout_ms_, &why_));
                break;
            case 5:
                static_cast<void>(vgpu_queue_completed(queue_));
                static_cast<void>(vgpu_queue_submitted(queue_));
                break;
            case 6:
                read_reply();
                break;
            case 7: {
                vgpu_queue_command made{};
                made.opcode = input_.word();
                made.params = params_.data();
                made.param_count = static_cast<std::uint32_t>(input_.below(8));
                code(vgpu_queue_call(queue_, &made, timeout_ms_, &reply_, &why_));
                check_reply();
                break;
            }
            case 8:
                code(vgpu_queue_copy_to(queue_, handle_, 0, bytes_.data(), length(), timeout_ms_,
                                        &why_));
                break;
            case 9:
                code(vgpu_queue_copy_from(queue_, handle_, 0, bytes_.data(), length(), timeout_ms_,
                                          &why_));
                break;
            case kHeapAlloc:
                // May take seconds: keep it rare.
                if (block_.size == 0 && input_.byte() == 0xAA) {
                    code(vgpu_heap_alloc(device_, 1 + input_.value() % 65536, 0, &block_, &why_));
                }
                break;
            case 11:
                if (block_.size != 0) {
                    code(vgpu_heap_free(device_, &block_, &why_));
                    block_ = {};
                }
                break;
            case 12: {
                vgpu_heap_info info{};
                vgpu_shm_info shm{};
                code(vgpu_get_heap_info(device_, &info, &why_));
                code(vgpu_get_shm_info(device_, &shm, &why_));
                static_cast<void>(vgpu_generation(device_));
                break;
            }
            case 13:
                code(vgpu_queue_synchronize(queue_, timeout_ms_, &why_));
                break;
            case 14: {
                std::uint32_t sum = 0;
                code(vgpu_queue_add(queue_, 1, 2, timeout_ms_, &sum, &why_));
                break;
            }
            case 15: {
                vgpu_gpu_info info{};
                code(vgpu_queue_device_info(queue_, timeout_ms_, &info, &why_));
                break;
            }
            case 16:
                for (unsigned left = 1U + input_.byte(); left != 0; --left) {
                    if (vgpu_queue_push_nop(queue_, nullptr, &point_, &why_) != VGPU_OK) {
                        break;
                    }
                }
                break;
            default:
                liar_.settle();
                break;
        }
    }

    const vgpu_reply_place* place() {
        if (block_.size < 32) {
            return nullptr;
        }
        place_ = {.offset = block_.offset,
                  .cookie = input_.below(4),
                  .capacity = static_cast<std::uint32_t>(block_.size),
                  .reserved = 0};
        return &place_;
    }
    void read_reply() {
        const auto* const at = place();
        vgpu_reply_view view{};
        if (at == nullptr || vgpu_queue_reply_read(queue_, at, &view, &why_) != VGPU_OK) {
            return;
        }
        check(sizeof(vgpu_queue_reply) + 4 * std::uint64_t{view.result_count} + view.data_length <=
                  at->capacity,
              "a reply is longer than its place");
        std::uint32_t sum = 0;
        for (std::uint32_t i = 0; i < view.result_count; ++i) {
            sum += view.results[i];
        }
        for (std::uint32_t i = 0; i < view.data_length; ++i) {
            sum += static_cast<const std::uint8_t*>(view.data)[i];
        }
        params_[0] = sum;
    }

    Input input_;
    Liar& liar_;
    vgpu_device* device_ = nullptr;
    vgpu_queue* queue_ = nullptr;
    std::uint32_t timeout_ms_ = 0;
    vgpu_failure why_{};
    vgpu_reply reply_{};
    std::uint32_t handle_ = 1;
    std::uint64_t point_ = 0;
    vgpu_heap_block block_{};
    vgpu_reply_place place_{};
    std::array<std::uint32_t, 8> params_{};
    std::vector<std::uint8_t> bytes_ = std::vector<std::uint8_t>(4096);
};

}  // namespace
}  // namespace vgpu::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace vgpu::fuzz;
    static Liar liar;
    const std::size_t before = open_descriptors();
    Input input(data, size);
    const auto calls = input.block(input.byte() % 64U);
    liar.start(input);
    Program(Input(calls.data(), calls.size()), liar).run();
    liar.stop();
    check(open_descriptors() == before, "descriptors were not returned");
    return 0;
}
