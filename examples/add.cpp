// SPDX-License-Identifier: MIT
//
// add.c in C++: an Expected holds a value or a Failure, and the destructor closes the device.
//
//   c++ -std=c++20 add.cpp $(pkg-config --cflags --libs vgpu) -o add && ./add 100 200
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

#include <vgpu/vgpu.hpp>

namespace {

constexpr std::chrono::seconds kLimit{35};

std::optional<std::uint32_t> read_number(std::string_view text) {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    // No leading zeros, which could be mistaken for octal.
    const bool zeros = text.size() > 1 && text.front() == '0';
    if (error != std::errc{} || end != text.data() + text.size() || zeros) {
        return std::nullopt;
    }
    return value;
}

int report(const std::string& what, const vgpu::Failure& failure) {
    std::cerr << "add: " << what << ": " << failure.message << " (" << vgpu_code_name(failure.code)
              << ")\n";
    return 1;
}

int run(int argc, char** argv) {
    const auto a = argc == 3 ? read_number(argv[1]) : std::nullopt;
    const auto b = argc == 3 ? read_number(argv[2]) : std::nullopt;
    if (!a || !b) {
        std::cerr << "usage: add A B (decimal numbers from 0 to 4294967295)\n";
        return 2;
    }
    auto gpu = vgpu::Device::open();
    if (!gpu) {
        return report("cannot open the device", gpu.failure());
    }
    const auto properties = gpu->properties();
    std::cout << "device " << properties.address << ", pool " << properties.pool << ", VM id "
              << properties.vm_id << '\n';
    const auto sum = gpu->add(*a, *b, kLimit);
    if (!sum) {
        return report("the addition failed", sum.failure());
    }
    std::cout << *a << " + " << *b << " = " << *sum << '\n';
    return 0;
}

// Fails if the output could not be written.
int finish(int status) {
    if (!std::cout.flush()) {
        std::cerr << "add: cannot write to standard output: " << std::strerror(errno) << '\n';
        return 1;
    }
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return finish(run(argc, argv));
    } catch (const std::exception& error) {
        std::cerr << "add: " << error.what() << '\n';
        return 1;
    }
}
