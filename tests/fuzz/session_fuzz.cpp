// SPDX-License-Identifier: MIT
//
// Fuzzer: sockets into a live mediator. An input is a script for four connections: complete,
// malformed and partial messages, descriptors of every kind, handshakes, records and arbitrary
// words in shared memory, doorbells, closing at any time. Afterwards another VM must be served, and
// the mediator must have released all resources.
//
// Excluded, because they block the mediator in the kernel and are tested separately (tests/attack):
// TCP sockets with SO_LINGER, full eventfds in blocking mode.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/live_mediator.h"
#include "fuzz/session_connection.h"
#include "ring/layout.h"
#include "ring/producer.h"
#include "support/unix_socket.h"
#include "vgpu_protocol.h"

namespace vgpu::fuzz {
namespace {

constexpr std::size_t kMostSteps = 100;
template <typename T>
std::span<const std::uint8_t> bytes_of(const T& value) {
    return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

constexpr std::array<std::uint32_t, 14> kOpcodes{VGPU_OP_NOP,
                                                 VGPU_OP_CUDA_KERNEL,
                                                 VGPU_OP_MEMORY_ALLOC,
                                                 VGPU_OP_MEMORY_FREE,
                                                 VGPU_OP_MEMORY_COPY,
                                                 VGPU_OP_GET_DEVICE_INFO,
                                                 VGPU_OP_SYNCHRONIZE,
                                                 VGPU_OP_VECTOR_ADD,
                                                 VGPU_OP_SAXPY,
                                                 VGPU_OP_MATMUL,
                                                 VGPU_OP_REDUCE_SUM,
                                                 VGPU_OP_PADDING,
                                                 0x0100,
                                                 VGPU_OP_DRIVER_FIRST};

class Script {
  public:
    Script(Input input, LiveMediator& mediator) : input_(input), mediator_(mediator) {}

    void run() {
        for (std::size_t step = 0; step < kMostSteps && !input_.empty(); ++step) {
            const std::uint8_t what = input_.byte();
            this->step(what & 15U, connections_[(what >> 4U) % connections_.size()]);
        }
    }

  private:
    void step(unsigned what, Connection& on) {
        switch (what) {
            case 0:
                connect(on);
                break;
            case 1:
                on.socket.reset();
                break;
            case 2:
            case 3:
                send_request(on);
                break;
            case 4:
                send_bytes(on, input_.block(input_.below(64)));
                break;
            case 5:
                send_any(on);
                break;
            case 6:
                send_hello(on);
                break;
            case 7:
                send_hello_queue(on);
                break;
            case 8:
                attach(on);
                break;
            case 9:
            case 10:
                push(on);
                break;
            case 11:
                poke(on);
                break;
            case 12:
                ring(on);
                break;
            case 13:
                receive(on);
                break;
            case 14:
                if (on.socket) {
                    static_cast<void>(
                        ::shutdown(on.socket.get(), input_.flag() ? SHUT_RD : SHUT_WR));
                }
                break;
            default:
                // On return, everything sent so far has been read.
                mediator_.check_alive();
                break;
        }
    }

    void connect(Connection& on) {
        on.socket.reset();
        on.socket = test::connect_unix(mediator_.path());
        const std::uint8_t identity = input_.byte();
        on.vm_id = 1 + identity % 4;
        on.pool = "ABAZ"[(identity >> 2U) & 3U];
        on.priority = (identity >> 4U) & 3U;
    }

    void send_request(Connection& on) {
        vgpu_request fixed{};
        fixed.version = VGPU_PROTOCOL_VERSION;
        fixed.opcode = input_.one_of(kOpcodes);
        const std::uint8_t shape = input_.byte();
        fixed.flags = shape & 3U;
        std::vector<std::uint32_t> params((shape >> 2U) & 15U);
        for (std::uint32_t& param : params) {
            param = input_.word();
        }
        std::span<const std::uint8_t> data;
        if ((shape & 64U) != 0) {
            data = input_.block(input_.byte());
        }
        fixed.param_count = static_cast<std::uint32_t>(params.size());
        const std::size_t params_end = sizeof fixed + 4 * params.size();
        fixed.data_offset = static_cast<std::uint32_t>(data.empty() ? 0 : params_end);
        fixed.data_length = static_cast<std::uint32_t>(data.size());
        if ((shape & 128U) != 0) {
            break_field(bytes_of_request(fixed));
        }
        std::vector<std::uint8_t> payload(params_end + data.size());
        std::memcpy(payload.data(), &fixed, sizeof fixed);
        const auto* const words = reinterpret_cast<const std::uint8_t*>(params.data());
        std::copy(words, words + 4 * params.size(), payload.begin() + sizeof fixed);
        std::copy(data.begin(), data.end(), payload.begin() + static_cast<long>(params_end));
        send_message(on, VGPU_MSG_REQUEST, input_.byte(), payload);
    }

    static std::span<std::uint8_t> bytes_of_request(vgpu_request& fixed) {
        return {reinterpret_cast<std::uint8_t*>(&fixed), sizeof fixed};
    }
    void break_field(std::span<std::uint8_t> bytes) {
        const std::size_t at = 4 * input_.below(bytes.size() / 4);
        const std::uint32_t word = input_.word();
        std::memcpy(bytes.data() + at, &word, sizeof word);
    }

    // Sends a message with any fields, descriptors and payload.
    void send_any(Connection& on) {
        vgpu_msg_header header{};
        header.magic = input_.byte() == 0 ? input_.word() : VGPU_MSG_MAGIC;
        header.msg_type = input_.byte();
        header.vm_id = input_.flag() ? on.vm_id : input_.word();
        header.request_id = input_.byte();
        header.pool_id = input_.byte();
        header.priority = input_.byte();
        header.payload_len = static_cast<std::uint16_t>(input_.value());
        const auto made = descriptors(input_.below(4) == 0 ? input_.below(kMostDescriptors) : 0);
        const auto payload = input_.block(input_.byte());
        std::vector<std::uint8_t> bytes(sizeof header + payload.size());
        std::memcpy(bytes.data(), &header, sizeof header);
        std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof header);
        send_bytes(on, bytes, numbers(made));
    }

    std::vector<Fd> descriptors(std::size_t count) {
        std::vector<Fd> made;
        while (made.size() < count) {
            Fd one = make_descriptor(input_);
            if (!one) {
                break;
            }
            made.push_back(std::move(one));
        }
        return made;
    }
    static std::vector<int> numbers(const std::vector<Fd>& descriptors) {
        std::vector<int> found;
        found.reserve(descriptors.size());
        for (const Fd& one : descriptors) {
            found.push_back(one.get());
        }
        return found;
    }

    // Sends a HELLO, valid except for one field and the memory.
    void send_hello(Connection& on) {
        vgpu_msg_hello hello = right_hello(1 + static_cast<std::uint32_t>(input_.below(4)));
        if (input_.flag()) {
            break_field({reinterpret_cast<std::uint8_t*>(&hello), sizeof hello});
        }
        const auto memory = descriptors(input_.below(8) == 0 ? input_.below(4) : 1);
        send_message(on, VGPU_MSG_HELLO, 0, bytes_of(hello), numbers(memory));
    }
    static vgpu_msg_hello right_hello(std::uint32_t queues) {
        return {.protocol_version = VGPU_PROTOCOL_VERSION,
                .peer_kind = VGPU_PEER_PROCESS,
                .features = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES,
                .shm_size = kMemorySize,
                .layout_version = VGPU_SHM_LAYOUT_VERSION,
                .queue_count = queues,
                .reserved = {}};
    }

    void send_hello_queue(Connection& on) {
        const vgpu_msg_hello_queue queue{
            .queue = static_cast<std::uint32_t>(input_.below(8)),
            .reserved = input_.byte() == 0xFF ? input_.word() : 0,
        };
        const auto events = descriptors(input_.below(8) == 0 ? input_.below(4) : 2);
        send_message(on, VGPU_MSG_HELLO_QUEUE, 0, bytes_of(queue), numbers(events));
    }

    // Completes a handshake with the existing or new memory, and starts a queue.
    void attach(Connection& on) {
        const std::uint8_t shape = input_.byte();
        const auto queues = 1U + (shape & 3U);
        connect(on);
        if (!on.memory || (shape & 4U) != 0 || on.layout->queue_count != queues) {
            on.memory = make_memory(kMemorySize, kRightSeals);
            on.layout = ring::Layout::compute(kMemorySize, queues);
            auto mapping = Mapping::create(on.memory.get(), kMemorySize, PROT_READ | PROT_WRITE);
            check(mapping.has_value(), "cannot map memory");
            on.mapping = std::move(mapping).value();
            on.events.clear();
            on.producers.clear();
            for (std::uint32_t queue = 0; queue < queues; ++queue) {
                on.events.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
                on.events.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
            }
        }
        send_message(on, VGPU_MSG_HELLO, 0, bytes_of(right_hello(queues)),
                     std::array{on.memory.get()});
        on.producers.clear();
        for (std::uint32_t queue = 0; queue < queues; ++queue) {
            const vgpu_msg_hello_queue one{.queue = queue, .reserved = 0};
            send_message(on, VGPU_MSG_HELLO_QUEUE, 0, bytes_of(one),
                         std::array{on.events[2 * std::size_t{queue}].get(),
                                    on.events[2 * std::size_t{queue} + 1].get()});
            on.producers.emplace_back(on.layout->queue(on.mapping.data(), queue));
        }
        if ((shape & 8U) != 0) {
            return;
        }
        mediator_.check_alive();
        for (std::uint32_t queue = 0; queue < queues; ++queue) {
            static_cast<void>(on.producers[queue].request_reset());
            static_cast<void>(::eventfd_write(on.events[2 * std::size_t{queue}].get(), 1));
        }
        mediator_.check_alive();
        for (ring::Producer& producer : on.producers) {
            static_cast<void>(producer.reset_progress());
        }
    }

    // Pushes a record as the library writes it, with any fields.
    void push(Connection& on) {
        if (on.producers.empty()) {
            return;
        }
        const std::uint8_t shape = input_.byte();
        const std::size_t queue = shape % on.producers.size();
        vgpu_record record{};
        record.opcode = input_.one_of(kOpcodes);
        record.flags = (shape & 4U) != 0 ? std::uint32_t{VGPU_FLAG_HEAP_OPERANDS} : 0;
        std::vector<std::uint32_t> params(input_.below(16));
        for (std::uint32_t& param : params) {
            param = input_.word();
        }
        if ((shape & 8U) != 0) {
            record.data_offset = place(on);
            record.data_length = input_.value();
        }
        if ((shape & 16U) != 0) {
            record.reply_offset = place(on);
            record.reply_capacity = input_.word();
        }
        record.cookie = shape;
        const auto inline_data = input_.block((shape & 32U) != 0 ? input_.byte() : 0);
        ring::Producer& producer = on.producers[queue];
        const unsigned times = (shape & 64U) != 0 ? 1U + input_.byte() : 1U;
        for (unsigned time = 0; time < times; ++time) {
            if (producer.push(record, params, std::as_bytes(inline_data)) != ring::Push::kDone) {
                break;
            }
        }
        if ((shape & 128U) != 0 && producer.publish()) {
            static_cast<void>(::eventfd_write(on.events[2 * queue].get(), 1));
        }
    }
    std::uint64_t place(const Connection& on) {
        const std::uint64_t at = input_.value();
        return input_.flag() ? on.layout->heap_offset + at : at;
    }

    // Stores to any word of the control block, the ring or the rest.
    void poke(Connection& on) {
        if (!on.layout) {
            return;
        }
        const std::uint8_t shape = input_.byte();
        const std::uint32_t queue = shape % on.layout->queue_count;
        std::uint64_t at = 0;
        switch (shape >> 6U) {
            case 0:
            case 1: {
                static constexpr std::array<std::uint64_t, 8> kWords{0,   8,   128, 256,
                                                                     384, 512, 640, 656};
                at = on.layout->control_offset(queue) + input_.one_of(kWords);
                break;
            }
            case 2:
                at = on.layout->ring_offset(queue) +
                     input_.number<std::uint16_t>() % on.layout->ring_size;
                break;
            default:
                at = input_.number<std::uint32_t>() % on.layout->size;
                break;
        }
        auto& word = *reinterpret_cast<std::uint64_t*>(on.mapping.data() + at / 8 * 8);
        if ((shape & 32U) != 0) {
            ring::SharedMemory::store_relaxed(word, word + input_.value());
        } else {
            ring::SharedMemory::store_relaxed(word, input_.value());
        }
        if ((shape & 16U) != 0) {
            static_cast<void>(::eventfd_write(on.events[2 * std::size_t{queue}].get(), 1));
        }
    }

    void ring(Connection& on) {
        if (!on.events.empty()) {
            static_cast<void>(::eventfd_write(on.events[input_.below(on.events.size())].get(),
                                              input_.flag() ? 1 : UINT64_MAX - 1));
        }
    }

    static void receive(Connection& on) {
        std::array<std::byte, 4096> scrap{};
        while (on.socket && ::recv(on.socket.get(), scrap.data(), scrap.size(), MSG_DONTWAIT) > 0) {
        }
    }

    Input input_;
    LiveMediator& mediator_;
    std::array<Connection, 4> connections_;
};

}  // namespace
}  // namespace vgpu::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace vgpu::fuzz;
    static LiveMediator mediator;
    const std::size_t before = open_descriptors();
    Script(Input(data, size), mediator).run();
    mediator.check_alive();
    mediator.check_new_connection();
    mediator.check_all_returned(before);
    return 0;
}
