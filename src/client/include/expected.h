// SPDX-License-Identifier: MIT
//
// Expected<T>: the result type of the C++ API of libvgpu: either a value, or a Failure with the
// code, error text and errno of the C API. Used by vgpu.hpp and by the library itself. Includes no
// other header of the project, so it can be installed beside vgpu.hpp.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace vgpu {

struct Failure {
    int code = 0;         // enum vgpu_error or enum vgpu_code; never VGPU_OK
    std::string message;  // error text, UTF-8, with the suggested remedy
    int sys_errno = 0;    // errno of the system call that failed, or 0
};

template <typename T>
class [[nodiscard]] Expected {
  public:
    // Implicit by design, so that functions can return a value or a Failure directly.
    Expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Expected(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

    [[nodiscard]] bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }

    // Precondition: has_value(); otherwise throws std::bad_variant_access.
    T& operator*() & { return std::get<0>(state_); }
    const T& operator*() const& { return std::get<0>(state_); }
    T&& operator*() && { return std::get<0>(std::move(state_)); }
    T* operator->() { return &std::get<0>(state_); }
    const T* operator->() const { return &std::get<0>(state_); }

    // Precondition: !has_value(); otherwise throws std::bad_variant_access.
    [[nodiscard]] const Failure& failure() const { return std::get<1>(state_); }

  private:
    std::variant<T, Failure> state_;
};

template <>
class [[nodiscard]] Expected<void> {
  public:
    Expected() = default;
    Expected(Failure failure) : failure_(std::move(failure)), failed_(true) {}

    [[nodiscard]] bool has_value() const { return !failed_; }
    explicit operator bool() const { return has_value(); }

    // Precondition: !has_value().
    [[nodiscard]] const Failure& failure() const { return failure_; }

  private:
    Failure failure_;
    bool failed_ = false;
};

}  // namespace vgpu
