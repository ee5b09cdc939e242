// SPDX-License-Identifier: MIT
//
// Test doubles: a sysfs tree whose BARs are plain files. Writes to registers are stored and have no
// side effects.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "client/include/vgpu.hpp"
#include "support/temp_dir.h"

namespace vgpu::client::test {

// A sysfs tree with PCI devices, and a /dev tree.
class FakeSysfs {
  public:
    FakeSysfs() {
        std::filesystem::permissions(dir_.path(), std::filesystem::perms(0755));
        std::filesystem::create_directories(bus());
        std::filesystem::create_directories(dir_.path() / "dev");
    }

    std::filesystem::path bus() const { return dir_.path() / "sys/bus/pci/devices"; }
    std::string device(const std::string& address) const { return bus() / address; }

    // Adds a vgpu-stub, or, with other ids, a different device.
    void add(const std::string& address, const std::string& vendor = "0x1af4",
             const std::string& id = "0x1111", const std::string& pci_class = "0x120000",
             const std::string& revision = "0x02") {
        std::filesystem::create_directories(device(address));
        write(address, "vendor", vendor + "\n");
        write(address, "device", id + "\n");
        write(address, "class", pci_class + "\n");
        write(address, "revision", revision + "\n");
        write(address, "enable", "1\n");
        write(address, "resource0", registers());
    }

    // Adds a vgpu-stub with attached shared memory. resource2 is zero-filled.
    void add_with_memory(const std::string& address, std::uint64_t size, std::uint32_t queues) {
        add(address);
        std::string bar = registers();
        put(bar, VGPU_REG_CAPABILITIES,
            VGPU_CAP_BASIC_REQUEST | VGPU_CAP_INTERRUPT | VGPU_CAP_DMA | VGPU_CAP_MULTI_REQUEST);
        put(bar, VGPU_REG_SHM_SIZE_LO, static_cast<std::uint32_t>(size));
        put(bar, VGPU_REG_SHM_SIZE_HI, static_cast<std::uint32_t>(size >> 32));
        put(bar, VGPU_REG_QUEUE_COUNT, queues);
        put(bar, VGPU_REG_SHM_STATE, VGPU_SHM_ATTACHED);
        write(address, "resource0", bar);
        write(address, "resource2", {});
        std::filesystem::resize_file(device(address) + "/resource2", size);
    }

    std::uint32_t register_of(const std::string& address, std::uint32_t offset) const {
        std::ifstream file(device(address) + "/resource0");
        std::uint32_t value = 0;
        file.seekg(offset);
        file.read(reinterpret_cast<char*>(&value), sizeof value);
        return value;
    }
    void set_register(const std::string& address, std::uint32_t offset, std::uint32_t value) {
        std::fstream file(device(address) + "/resource0", std::ios::in | std::ios::out);
        file.seekp(offset);
        file.write(reinterpret_cast<const char*>(&value), sizeof value);
    }

    void write(const std::string& address, const std::string& file, const std::string& text) {
        std::ofstream(device(address) + "/" + file) << text;
    }

    OpenOptions options(vgpu_wait_mode mode = VGPU_WAIT_AUTO,
                        const std::string& address = {}) const {
        OpenOptions made;
        made.address = address;
        made.wait_mode = mode;
        made.sysfs_root = dir_.file("sys");
        made.dev_root = dir_.file("dev");
        return made;
    }

  private:
    static std::string registers() {
        std::string bar(VGPU_BAR0_SIZE, '\0');
        put(bar, VGPU_REG_PROTOCOL_VER, VGPU_PROTOCOL_VERSION);
        put(bar, VGPU_REG_CAPABILITIES, VGPU_CAP_BASIC_REQUEST | VGPU_CAP_INTERRUPT);
        put(bar, VGPU_REG_POOL_ID, 'C');
        put(bar, VGPU_REG_PRIORITY, VGPU_PRIORITY_LOW);
        put(bar, VGPU_REG_VM_ID, 4711);
        return bar;
    }
    static void put(std::string& bar, std::size_t at, std::uint32_t value) {
        std::memcpy(bar.data() + at, &value, 4);
    }

    vgpu::test::TempDir dir_;
};

}  // namespace vgpu::client::test
