// SPDX-License-Identifier: MIT
//
// Result<T, E>: a value, or an error that explains its absence; by default an Error for a person.
// Modelled on std::expected, which replaces it once all supported compilers have it. Exceptions are
// for start-up only.
#pragma once

#include <string>
#include <system_error>
#include <utility>
#include <variant>

namespace vgpu {

// Error text for the person who has to act, and the underlying errno (0: none).
struct Error {
    std::string message;
    int sys_errno = 0;

    // "what: strerror(err)".
    static Error from_errno(std::string what, int err) {
        what += ": ";
        what += std::generic_category().message(err);
        return Error{std::move(what), err};
    }
};

template <typename T, typename E = Error>
class [[nodiscard]] Result {
  public:
    // Implicit on purpose: `return value;` and `return Error{…};` both read well.
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(E error) : state_(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }

    // Precondition: has_value(). Otherwise std::bad_variant_access.
    T& value() & { return std::get<0>(state_); }
    const T& value() const& { return std::get<0>(state_); }
    T&& value() && { return std::get<0>(std::move(state_)); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

    // Precondition: !has_value().
    [[nodiscard]] const E& error() const& { return std::get<1>(state_); }
    E&& error() && { return std::get<1>(std::move(state_)); }

  private:
    std::variant<T, E> state_;
};

template <typename E>
class [[nodiscard]] Result<void, E> {
  public:
    Result() = default;
    Result(E error) : error_(std::move(error)), failed_(true) {}

    [[nodiscard]] bool has_value() const { return !failed_; }
    explicit operator bool() const { return has_value(); }

    // Precondition: !has_value().
    [[nodiscard]] const E& error() const& { return error_; }
    E&& error() && { return std::move(error_); }

  private:
    E error_;
    bool failed_ = false;
};

}  // namespace vgpu
