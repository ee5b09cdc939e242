// SPDX-License-Identifier: MIT
//
// Stub: the device vgpu-stub as a guest's driver sees it, and DeviceTest: a machine with one such
// device whose mediator is the test itself.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "qtest/machine.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"
#include "vgpu_protocol.h"

namespace vgpu::test {

class Stub {
  public:
    static constexpr unsigned kSlot = 4;
    static constexpr std::uint64_t kBar0 = 0xE0000000;

    // Maps BAR0 and switches memory access and bus mastering on. `machine` must outlive the Stub.
    explicit Stub(Machine& machine);

    // A register (an aligned 4-byte access).
    std::uint32_t reg(std::uint32_t offset) { return static_cast<std::uint32_t>(read(offset, 4)); }
    void set(std::uint32_t offset, std::uint32_t value) { write(offset, 4, value); }
    // Any access to BAR0.
    std::uint64_t read(std::uint32_t offset, unsigned size);
    void write(std::uint32_t offset, unsigned size, std::uint64_t value);

    // Puts a request into the buffer, sets its length and id, and rings the doorbell.
    void submit(std::uint32_t id, std::span<const std::uint8_t> request);
    // Polls STATUS until it is not BUSY, and returns it; BUSY at the limit.
    std::uint32_t wait_done(std::chrono::milliseconds limit = std::chrono::seconds(10));
    // RESPONSE_BUF, RESPONSE_LEN bytes.
    std::vector<std::uint8_t> response();

    // Configuration space.
    std::uint32_t config(unsigned offset, unsigned size);
    void set_config(unsigned offset, unsigned size, std::uint32_t value);
    // Offset of a capability; 0 if there is none.
    unsigned find_capability(std::uint8_t id);

    // The machine the device is in.
    Machine& machine() { return *machine_; }

    // One message, by MSI: switched on, it writes `data` at `address`.
    void enable_msi(std::uint64_t address, std::uint16_t data);
    void disable_msi();

  private:
    Machine* machine_;
};

class DeviceTest : public testing::Test {
  protected:
    static constexpr std::uint32_t kVmId = 7;

    void SetUp() override;

    // Starts the machine with `properties` (such as ",timeout-ms=100") added to the device, and
    // plays the mediator: when this returns the device is connected to peer(). Unless the
    // properties say otherwise the device has no shared memory, so that it says no hello.
    void start(const std::string& properties = {}, const std::vector<std::string>& extra = {},
               const std::string& machine = "q35");
    // Starts the machine with a device that has no mediator listening.
    void start_alone(const std::string& properties = {},
                     const std::vector<std::string>& extra = {});
    // Takes the device's next connection and returns when the device knows that it has it.
    void accept();
    // Takes the device's next connection.
    void connect();
    // Returns when the device has dealt with everything sent to it so far.
    void sync();

    // Sends the response to a request; the request's own header is echoed.
    void answer(const WireMessage& request, std::span<const std::uint8_t> response);
    void answer(std::uint32_t id, std::span<const std::uint8_t> response);
    // Sends a message of `type` for request `id`.
    void send(std::uint32_t type, std::uint32_t id, std::span<const std::uint8_t> payload = {});
    // The device's next message must be a REQUEST; its id and payload are compared.
    void expect_request(std::uint32_t id, std::span<const std::uint8_t> payload);
    // Reads ERROR_CODE after ERROR; 0xFFFFFFFF if STATUS is not ERROR.
    std::uint32_t wait_error();

    // Polls the migration until it has ended in one way or the other, or has reached `state`.
    static std::string wait_migration(Machine& machine, const std::string& state = "completed");
    // Polls the machine until it is in this run state (QMP's RunState); false if it does not come.
    static bool wait_run_state(Machine& machine, const std::string& state);

    [[nodiscard]] std::string socket_path() const { return dir_.file("mediator"); }
    Machine& machine() { return *machine_; }
    Stub& stub() { return *stub_; }
    WirePeer& peer() { return *peer_; }

    TempDir dir_;
    std::optional<WireListener> listener_;
    std::unique_ptr<Machine> machine_;
    std::optional<Stub> stub_;
    std::optional<WirePeer> peer_;
};

}  // namespace vgpu::test
