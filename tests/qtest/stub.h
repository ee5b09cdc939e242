// SPDX-License-Identifier: MIT
//
// Stub: the device vgpu-stub as seen by a guest driver. DeviceTest: a machine with one such device
// whose mediator is the test itself.
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

    // Maps BAR0 and enables memory access and bus mastering. `machine` must outlive the Stub.
    explicit Stub(Machine& machine);

    // Register access (aligned, 4 bytes).
    std::uint32_t reg(std::uint32_t offset) { return static_cast<std::uint32_t>(read(offset, 4)); }
    void set(std::uint32_t offset, std::uint32_t value) { write(offset, 4, value); }
    // Any access to BAR0.
    std::uint64_t read(std::uint32_t offset, unsigned size);
    void write(std::uint32_t offset, unsigned size, std::uint64_t value);

    // Writes a request into the buffer, sets its length and id, and rings the doorbell.
    void submit(std::uint32_t id, std::span<const std::uint8_t> request);
    // Polls STATUS until it is not BUSY, and returns it; BUSY on time-out.
    std::uint32_t wait_done(std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Returns RESPONSE_LEN bytes of RESPONSE_BUF.
    std::vector<std::uint8_t> response();

    // Configuration space.
    std::uint32_t config(unsigned offset, unsigned size);
    void set_config(unsigned offset, unsigned size, std::uint32_t value);
    // Returns the offset of a capability; 0 if it does not exist.
    unsigned find_capability(std::uint8_t id);

    // Returns the machine that contains the device.
    Machine& machine() { return *machine_; }

    // Enables MSI: one message that writes `data` at `address`.
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
    // acts as its mediator: on return the device is connected to peer(). By default the device has
    // no shared memory, so that it sends no HELLO.
    void start(const std::string& properties = {}, const std::vector<std::string>& extra = {},
               const std::string& machine = "q35");
    // Starts the machine with a device that has no mediator.
    void start_alone(const std::string& properties = {},
                     const std::vector<std::string>& extra = {});
    // Accepts the device's next connection; returns when the device has processed it.
    void accept();
    // Accepts the device's next connection.
    void connect();
    // Returns when the device has processed everything sent to it so far.
    void sync();

    // Sends the response to a request, echoing the request's header.
    void answer(const WireMessage& request, std::span<const std::uint8_t> response);
    void answer(std::uint32_t id, std::span<const std::uint8_t> response);
    // Sends a message of `type` for request `id`.
    void send(std::uint32_t type, std::uint32_t id, std::span<const std::uint8_t> payload = {});
    // Expects a REQUEST with this id and payload as the device's next message.
    void expect_request(std::uint32_t id, std::span<const std::uint8_t> payload);
    // Waits for completion. Returns ERROR_CODE; 0xFFFFFFFF if STATUS is not ERROR.
    std::uint32_t wait_error();

    // Polls the migration until it has finished or failed, or has reached `state`.
    static std::string wait_migration(Machine& machine, const std::string& state = "completed");
    // Polls until the machine is in this run state (QMP's RunState); returns false on time-out.
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
