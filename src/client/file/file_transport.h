// SPDX-License-Identifier: MIT
//
// FileTransport: additions through the old file protocol, for a VM without a device: writes
// request.txt and polls response.txt in the VM's folder of a share. Other operations fail with
// VGPU_ERR_UNSUPPORTED_OPERATION.
//
// Others with access to the share can change the folder at any time: links are not followed, and
// only regular files are opened.
//
// The protocol has no request ids: if a program gives up on a request that the mediator has taken,
// the next program may get its response. Programs of one machine (network namespace) that use this
// transport exclude each other.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/fd.h"
#include "client/core/transport.h"
#include "ipc/file_line.h"

namespace vgpu::client {

struct FileSettings {
    std::string directory;    // contains the folder vmN
    std::uint32_t vm_id = 0;  // 0: vm0 if there is one, else the only folder
    char pool = 'A';
    std::uint32_t priority = 0;  // enum vgpu_priority
};

class FileTransport : public Transport {
  public:
    // VGPU_E_NO_DEVICE if there is no folder of this VM, VGPU_E_IN_USE if another process uses it,
    // VGPU_E_NO_PERMISSION, VGPU_E_SYSTEM.
    static Expected<std::unique_ptr<FileTransport>> create(FileSettings settings);

    // Withdraws a request in flight that the mediator has not taken.
    ~FileTransport() override;

    Expected<std::uint32_t> submit(std::span<const std::byte> request) override;
    Expected<Completion> wait(Nanoseconds deadline) override;
    Expected<void> drain(Nanoseconds deadline) override;
    // VGPU_E_NO_INTERRUPT.
    Expected<void> wait_interrupt(Nanoseconds deadline) override;
    [[nodiscard]] std::uint32_t last_request_id() const override { return last_id_; }
    Clock& clock() override { return system_clock(); }
    std::uint64_t timestamp() override { return timestamp_; }
    [[nodiscard]] std::uint64_t interrupt_count() const override { return 0; }
    [[nodiscard]] bool has_interrupt() const override { return false; }
    RegisterWindow* registers() override { return nullptr; }

    // With the VM id that was found.
    [[nodiscard]] const FileSettings& settings() const { return settings_; }

  private:
    FileTransport(FileSettings settings, Fd folder, Fd claim)
        : settings_(std::move(settings)), folder_(std::move(folder)), claim_(std::move(claim)) {}

    // Writes the request file, with an empty response file. Returns a failure of the system.
    Expected<void> write_request(const FileRequest& request);
    // Polls for the response. Returns false at the deadline.
    Expected<bool> poll_for_answer(Nanoseconds deadline);
    // Reads the response file. Returns true if it is complete.
    Expected<bool> read_response();
    void complete(std::uint32_t code, std::uint32_t sum, std::string why);
    // Empties the request file, in case the mediator has not taken the request.
    void withdraw_request();
    [[nodiscard]] Expected<Fd> open_for_writing(const char* name) const;
    [[nodiscard]] Failure failed(const char* name, const std::string& what, int error) const;
    [[nodiscard]] std::string path_of(const char* name) const;

    FileSettings settings_;
    Fd folder_;
    Fd claim_;  // excludes other processes
    std::optional<Completion> completion_;
    bool submitted_ = false;  // and the completion not fetched
    std::uint32_t last_id_ = 0;
    std::uint64_t timestamp_ = 0;
};

}  // namespace vgpu::client
