// SPDX-License-Identifier: MIT
//
// MediatorControl: the admin API's view of a Mediator.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "mediator/admin/control.h"
#include "mediator/loop/mediator.h"

namespace vgpu {

class MediatorControl final : public AdminControl {
  public:
    struct Parts {
        Mediator& mediator;
        const Counters& counters;
        EventSink& events;
        const Clock& clock;
        std::vector<std::string> sockets;
        std::string config_file;
        int only_gpu = 0;  // CUDA ordinal, if there is no [[gpu]]
        std::function<ReloadOutcome()> reload;
        std::function<void()> before_drain{};
        std::function<std::uint64_t()> suppressed_lines;
    };
    // Borrows what the parts refer to.
    explicit MediatorControl(Parts parts) : parts_(std::move(parts)), begin_(parts_.clock.now()) {}

    [[nodiscard]] StatusView status() const override;
    [[nodiscard]] std::vector<GpuView> gpus() const override;
    [[nodiscard]] std::vector<PoolView> pools() const override;
    [[nodiscard]] std::vector<std::uint32_t> vm_ids() const override;
    [[nodiscard]] VmReader vm_reader() const override;
    [[nodiscard]] std::optional<VmView> vm(std::uint32_t id) const override;
    [[nodiscard]] const Settings& settings() const override { return parts_.mediator.settings(); }
    void apply(const Settings& settings) override { parts_.mediator.apply(settings); }
    [[nodiscard]] bool has_buffers_outside(std::uint32_t vm_id, char pool) const override;
    bool quarantine(std::uint32_t vm_id, std::string_view reason) override;
    bool release(std::uint32_t vm_id) override { return parts_.mediator.release(vm_id); }
    void drain() override;
    ReloadOutcome reload() override { return parts_.reload(); }

  private:
    using Loads = std::unordered_map<std::uint32_t, Dispatcher::Load>;
    // Returns the CUDA ordinal, which users see.
    [[nodiscard]] std::size_t gpu_number(std::size_t device) const;
    [[nodiscard]] bool known(std::uint32_t id) const;
    [[nodiscard]] VmView view_of(std::uint32_t id, const Loads& loads) const;
    [[nodiscard]] std::optional<char> pool_of(std::uint32_t id) const;

    Parts parts_;
    std::chrono::nanoseconds begin_;
};

}  // namespace vgpu
