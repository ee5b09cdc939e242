// SPDX-License-Identifier: MIT
//
// Fuzzer: the device without QEMU: register file, message parser and handshake in plain C. An input
// is a script of register accesses, bytes from the mediator and events, connected as in
// vgpu-stub.c. The state must always be valid and the sizes in bounds.
#include <array>
#include <cstring>
#include <vector>

#include "fuzz/check.h"
#include "fuzz/input.h"
#include "vgpu-hello.h"
#include "vgpu-regs.h"
#include "vgpu-wire.h"

namespace vgpu::fuzz {
namespace {

constexpr std::uint32_t kVmId = 7;

class Device {
  public:
    explicit Device(Input input) : input_(input) {
        vgpu_regs_init(&regs_, 'A', VGPU_PRIORITY_HIGH, kVmId);
        hello_ = {};
        regs_.wait_for_link = input_.flag();
        shm_ = input_.flag();
        if (shm_) {
            const std::uint32_t queues = 1 + static_cast<std::uint32_t>(input_.below(64));
            vgpu_regs_init_shm(&regs_, VGPU_SHM_SIZE_MIN, queues, input_.flag() ? 1 + queues : 0);
            hello_.shm_size = VGPU_SHM_SIZE_MIN;
            hello_.queue_count = queues;
        }
        vgpu_wire_restart(&in_, kVmId, shm_);
    }

    void run() {
        while (!input_.empty()) {
            step();
            check_state();
        }
    }

  private:
    void step() {
        switch (input_.below(14)) {
            case 0:
                connected(input_.byte() != 0);
                break;
            case 1:
                disconnected();
                break;
            case 2:
                if (!vgpu_regs_timeout(&regs_, ++now_)) {
                    disconnected();
                }
                break;
            case 3:
                reset();
                break;
            case 4:
                receive(input_.block(input_.byte()));
                break;
            case 5:
                receive_message();
                break;
            case 6:
                static_cast<void>(vgpu_regs_take_notify(&regs_));
                break;
            case 7:
                if (shm_) {
                    vgpu_regs_queue_interrupt(
                        &regs_, static_cast<std::uint32_t>(input_.below(regs_.queue_count)));
                }
                break;
            case 8:
            case 9:
                write(offset(), input_.value(), width());
                break;
            case 10:
                submit();
                break;
            case 12:
                map_memory();
                break;
            case 13:
                if (regs_.held && !regs_.link_up) {  // the wait for a connection has ended
                    vgpu_regs_fail(&regs_, VGPU_ERR_MEDIATOR_UNAVAILABLE, ++now_);
                }
                break;
            default: {
                std::uint32_t effect = 0;
                static_cast<void>(vgpu_regs_read(&regs_, offset(), width(), &effect));
                break;
            }
        }
    }

    std::uint64_t offset() {
        const std::uint16_t raw = input_.number<std::uint16_t>();
        return (raw & 0x8000U) != 0 ? (raw & 0xFFCU) : (raw & 0xFFFU);
    }
    unsigned width() {
        static constexpr std::array<unsigned, 4> kWidths{4, 1, 2, 8};
        return input_.one_of(kWidths);
    }
    void write(std::uint64_t offset, std::uint64_t value, unsigned width) {
        const std::uint32_t effect = vgpu_regs_write(&regs_, offset, value, width, ++now_);
        if ((effect & VGPU_REGS_SUBMIT) != 0) {
            check((regs_.link_up || regs_.held) && regs_.status == VGPU_STATUS_BUSY,
                  "a request is to be sent without a connection");
            // As in the device: not before the handshake completes.
            regs_.held = regs_.held || hello_.phase == VGPU_HELLO_WAITING;
            send();
        }
        if ((effect & VGPU_REGS_QUEUE_RUNG) != 0) {
            check(vgpu_regs_doorbell_queue(offset) < regs_.queue_count,
                  "a doorbell of a queue that is not there");
        }
    }
    void submit() {
        write(VGPU_REG_REQUEST_LEN, input_.value(), 4);
        write(VGPU_REG_REQUEST_ID, input_.below(4), 4);
        write(VGPU_REG_DOORBELL, 1, 4);
    }

    void connected(bool passes_descriptors) {
        disconnected();
        vgpu_regs_connected(&regs_);
        vgpu_wire_restart(&in_, kVmId, shm_);
        mapped_ = mapped_ || input_.flag();
        if (vgpu_hello_connected(&hello_, passes_descriptors, mapped_)) {
            send_hello();
        } else {
            send();
        }
    }
    // Sends the request in flight, unless it has to wait.
    void send() {
        if (regs_.status == VGPU_STATUS_BUSY && regs_.link_up &&
            hello_.phase != VGPU_HELLO_WAITING) {
            regs_.held = false;
            vgpu_hello_overtaken(&hello_);
        }
    }
    void map_memory() {
        mapped_ = true;
        switch (vgpu_hello_mapped(&hello_)) {
            case VGPU_HELLO_SAY:
                check(shm_ && regs_.link_up, "a hello without memory or connection");
                send_hello();
                break;
            case VGPU_HELLO_RENEW:
                if (regs_.status != VGPU_STATUS_BUSY) {
                    disconnected();
                }
                break;
            case VGPU_HELLO_KEEP:
                break;
        }
    }
    void send_hello() {
        vgpu_msg_header identity{};
        identity.vm_id = kVmId;
        for (std::uint32_t index = 0; index < vgpu_hello_messages(&hello_); ++index) {
            std::array<std::uint8_t, VGPU_HELLO_MESSAGE_MAX> out{};
            check(vgpu_hello_encode(&hello_, &identity, index, out.data()) <= out.size(),
                  "a message of the hello is too long");
        }
    }
    void disconnected() {
        vgpu_hello_disconnected(&hello_);
        regs_.attached = false;
        vgpu_regs_disconnected(&regs_, ++now_);
        check(regs_.status != VGPU_STATUS_BUSY || (regs_.held && regs_.wait_for_link),
              "busy without a connection");
    }
    void reset() {
        const bool keep = vgpu_regs_reset(&regs_);
        static_cast<void>(vgpu_hello_reset(&hello_));
        check(vgpu_regs_valid(&regs_), "a reset leaves a state that is none");
        if (!keep) {
            disconnected();
        }
    }

    // Receives a complete message, valid except for the fields that the input chooses.
    void receive_message() {
        static constexpr std::array<std::uint32_t, 8> kTypes{
            VGPU_MSG_RESPONSE, VGPU_MSG_BUSY,        VGPU_MSG_QUARANTINED,    VGPU_MSG_PING,
            VGPU_MSG_PONG,     VGPU_MSG_HELLO_REPLY, VGPU_MSG_SHM_RESET_DONE, VGPU_MSG_REQUEST};
        vgpu_msg_header header{};
        header.magic = VGPU_MSG_MAGIC;
        header.msg_type = input_.one_of(kTypes);
        header.vm_id = kVmId;
        header.request_id = static_cast<std::uint32_t>(input_.below(4));
        std::vector<std::uint8_t> payload;
        if (header.msg_type == VGPU_MSG_RESPONSE) {
            payload.resize(sizeof(vgpu_response) + input_.byte());
            const std::uint32_t status = input_.word();
            std::memcpy(payload.data() + offsetof(vgpu_response, status), &status, sizeof status);
        } else if (header.msg_type == VGPU_MSG_HELLO_REPLY ||
                   header.msg_type == VGPU_MSG_SHM_RESET_DONE) {
            vgpu_msg_hello_reply reply{};
            reply.status = static_cast<std::uint32_t>(input_.below(3));
            if (reply.status == VGPU_HELLO_TAKEN) {
                reply.layout_version = VGPU_SHM_LAYOUT_VERSION;
                reply.features = VGPU_HELLO_FEATURES;
                reply.generation = input_.value();
            }
            payload.resize(sizeof reply);
            std::memcpy(payload.data(), &reply, sizeof reply);
        }
        header.payload_len = static_cast<std::uint16_t>(payload.size());
        std::vector<std::uint8_t> bytes(sizeof header + payload.size());
        std::memcpy(bytes.data(), &header, sizeof header);
        std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof header);
        // In two pieces.
        const std::size_t cut = std::min<std::size_t>(input_.byte(), bytes.size());
        receive(std::span(bytes).first(cut));
        receive(std::span(bytes).subspan(cut));
    }

    void receive(std::span<const std::uint8_t> bytes) {
        const std::uint8_t* data = bytes.data();
        std::size_t size = bytes.size();
        while (regs_.link_up) {
            vgpu_msg_header header{};
            const std::uint8_t* payload = nullptr;
            const char* reason = nullptr;
            switch (vgpu_wire_feed(&in_, &data, &size, &header, &payload, &reason)) {
                case VGPU_WIRE_MORE:
                    check(size == 0, "bytes were left without a message");
                    return;
                case VGPU_WIRE_BAD:
                    check(reason != nullptr, "a bad stream without a reason");
                    disconnected();
                    return;
                case VGPU_WIRE_MESSAGE:
                    check(header.payload_len <= VGPU_BUF_SIZE && header.vm_id == kVmId,
                          "a message that cannot be accepted was");
                    message(header, payload);
                    break;
            }
        }
    }

    void message(const vgpu_msg_header& header, const std::uint8_t* payload) {
        switch (header.msg_type) {
            case VGPU_MSG_RESPONSE:
                static_cast<void>(vgpu_regs_answer(&regs_, header.request_id, payload,
                                                   header.payload_len, ++now_));
                break;
            case VGPU_MSG_BUSY:
            case VGPU_MSG_QUARANTINED:
                static_cast<void>(
                    vgpu_regs_refused(&regs_, header.request_id, VGPU_ERR_RATE_LIMITED, ++now_));
                break;
            case VGPU_MSG_HELLO_REPLY:
            case VGPU_MSG_SHM_RESET_DONE:
                hello_answer(header.msg_type, payload);
                break;
            default:
                break;
        }
    }

    void hello_answer(std::uint32_t type, const std::uint8_t* payload) {
        const char* reason = nullptr;
        switch (vgpu_hello_answer(&hello_, type, payload, &reason)) {
            case VGPU_HELLO_NOTHING:
                break;
            case VGPU_HELLO_SETTLED:
            case VGPU_HELLO_SEND_RESET:
                regs_.held = false;
                break;
            case VGPU_HELLO_ATTACH:
                check(hello_.generation != 0, "attached without a generation");
                regs_.held = false;
                regs_.attached = true;
                vgpu_regs_shm_state_changed(&regs_);
                break;
            case VGPU_HELLO_BAD:
                check(reason != nullptr, "a bad answer without a reason");
                disconnected();
                break;
        }
    }

    void check_state() {
        check(regs_.inflight_len <= VGPU_BUF_SIZE && regs_.response_len <= VGPU_BUF_SIZE,
              "a length is over the buffer's");
        check(regs_.abandoned_count <= VGPU_REGS_MAX_ABANDONED, "too many requests are given up");
        check(in_.have < sizeof in_.bytes, "the receive buffer is full");
        check(hello_.phase != VGPU_HELLO_SERVED || shm_, "served without memory");
        vgpu_regs copy = regs_;
        if (copy.status == VGPU_STATUS_BUSY) {
            check((copy.link_up || copy.held) && copy.inflight_len > 0, "busy with nothing");
            copy.status = VGPU_STATUS_IDLE;
        }
        check(vgpu_regs_valid(&copy), "a state that a migration would refuse");
    }

    Input input_;
    bool shm_ = false;
    vgpu_regs regs_{};
    vgpu_wire_in in_{};
    vgpu_hello hello_{};
    bool mapped_ = false;  // BAR2, since machine start or reset
    std::uint64_t now_ = 0;
};

}  // namespace
}  // namespace vgpu::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    vgpu::fuzz::Device(vgpu::fuzz::Input(data, size)).run();
    return 0;
}
