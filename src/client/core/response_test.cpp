// SPDX-License-Identifier: MIT
#include "client/core/response.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>

#include "client/testing/fake_device.h"

namespace vgpu::client::test {
namespace {

Completion completion_of(const Bytes& bytes, std::uint32_t error = 0) {
    Completion completion;
    completion.error_code = error;
    completion.response_untrusted.resize(bytes.size());
    if (!bytes.empty()) {
        std::memcpy(completion.response_untrusted.data(), bytes.data(), bytes.size());
    }
    return completion;
}

int decode_code(const Bytes& bytes, std::uint32_t error = 0) {
    const auto reply = decode_completion(completion_of(bytes, error));
    return reply ? int{VGPU_OK} : reply.failure().code;
}

// Decodes a valid response with modified header fields.
int decode_with(const std::function<void(vgpu_response&)>& change) {
    Bytes bytes = make_response(0, {1, 2}, "abc");
    vgpu_response header{};
    std::memcpy(&header, bytes.data(), sizeof header);
    change(header);
    std::memcpy(bytes.data(), &header, sizeof header);
    return decode_code(bytes);
}

TEST(EncodeRequest, LaysOutHeaderParamsAndData) {
    const std::array<std::uint32_t, 2> params{0x11223344, 5};
    const std::string data = "hello";
    const vgpu_command command{0x1234, VGPU_FLAG_BOOST, params.data(), 2, data.data(), 5};
    const auto bytes = encode_request(command);
    ASSERT_TRUE(bytes);
    ASSERT_EQ(bytes->size(), 45u);
    vgpu_request header{};
    std::memcpy(&header, bytes->data(), sizeof header);
    EXPECT_EQ(header.version, VGPU_PROTOCOL_VERSION);
    EXPECT_EQ(header.opcode, 0x1234u);
    EXPECT_EQ(header.flags, VGPU_FLAG_BOOST);
    EXPECT_EQ(header.param_count, 2u);
    EXPECT_EQ(header.data_offset, 40u);
    EXPECT_EQ(header.data_length, 5u);
    EXPECT_EQ(std::memcmp(bytes->data() + 32, params.data(), 8), 0);
    EXPECT_EQ(std::memcmp(bytes->data() + 40, data.data(), 5), 0);
}

TEST(EncodeRequest, TakesWhatFitsAndNoByteMore) {
    std::vector<std::uint32_t> params(300);
    std::vector<char> data(2000);
    const auto code_for = [&](std::uint32_t param_count, std::uint32_t data_length) {
        const vgpu_command command{0, 0, params.data(), param_count, data.data(), data_length};
        const auto bytes = encode_request(command);
        return bytes ? int{VGPU_OK} : bytes.failure().code;
    };
    EXPECT_EQ(code_for(248, 0), VGPU_OK);
    EXPECT_EQ(code_for(249, 0), VGPU_E_ARGUMENT);
    EXPECT_EQ(code_for(0, 992), VGPU_OK);
    EXPECT_EQ(code_for(0, 993), VGPU_E_ARGUMENT);
    EXPECT_EQ(code_for(1, 989), VGPU_E_ARGUMENT);
    // 4 * 0x40000000 is 0 in 32 bits.
    EXPECT_EQ(code_for(0x40000000, 0), VGPU_E_ARGUMENT);
    EXPECT_EQ(code_for(0, 0xFFFFFFFF), VGPU_E_ARGUMENT);
}

TEST(EncodeRequest, RefusesMissingPointers) {
    EXPECT_EQ(encode_request({0, 0, nullptr, 1, nullptr, 0}).failure().code, VGPU_E_ARGUMENT);
    EXPECT_EQ(encode_request({0, 0, nullptr, 0, nullptr, 1}).failure().code, VGPU_E_ARGUMENT);
    EXPECT_TRUE(encode_request({0, 0, nullptr, 0, nullptr, 0}));
}

TEST(DecodeCompletion, GivesResultsAndData) {
    const auto reply = decode_completion(completion_of(make_response(0, {300, 4}, "name")));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->result_count, 2u);
    EXPECT_EQ(reply->results[0], 300u);
    EXPECT_EQ(reply->results[1], 4u);
    EXPECT_EQ(reply->exec_time_us, 7u);
    EXPECT_EQ(reply->data_length, 4u);
    EXPECT_STREQ(reinterpret_cast<const char*>(reply->data), "name");
}

TEST(DecodeCompletion, FillsTheWholeBuffer) {
    const auto full = decode_completion(
        completion_of(make_response(0, std::vector<std::uint32_t>(VGPU_MAX_RESULTS, 9))));
    ASSERT_TRUE(full);
    EXPECT_EQ(full->result_count, VGPU_MAX_RESULTS);
    EXPECT_EQ(full->results[VGPU_MAX_RESULTS - 1], 9u);
    const auto data =
        decode_completion(completion_of(make_response(0, {}, std::string(VGPU_MAX_DATA, 'x'))));
    ASSERT_TRUE(data);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(data->data)).size(), VGPU_MAX_DATA);
}

TEST(DecodeCompletion, RefusesLengthsThatDoNotFit) {
    EXPECT_EQ(decode_with([](vgpu_response&) {}), VGPU_OK);
    for (const std::uint32_t lie : {3u, 100u, 0x40000000u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
        EXPECT_EQ(decode_with([&](auto& h) { h.result_count = lie; }), VGPU_E_BAD_RESPONSE) << lie;
    }
    for (const std::uint32_t lie : {4u, 1024u, 0xFFFFFFFFu, 0xFFFFFFD8u}) {
        EXPECT_EQ(decode_with([&](auto& h) { h.data_length = lie; }), VGPU_E_BAD_RESPONSE) << lie;
    }
    // Overlaps the results, exceeds the end, wraps around in 32 bits.
    for (const std::uint32_t lie : {0u, 32u, 39u, 41u, 0xFFFFFFFFu, 0xFFFFFFFDu}) {
        EXPECT_EQ(decode_with([&](auto& h) { h.data_offset = lie; }), VGPU_E_BAD_RESPONSE) << lie;
    }
    // Without data the offset is ignored.
    EXPECT_EQ(decode_with([](auto& h) {
                  h.data_length = 0;
                  h.data_offset = 0xFFFFFFFF;
              }),
              VGPU_OK);
}

TEST(DecodeCompletion, RefusesMoreThanAnAnswerHasRoomFor) {
    const std::vector<std::uint32_t> many(VGPU_MAX_RESULTS + 1, 9);
    EXPECT_EQ(decode_code(make_response(0, many)), VGPU_E_BAD_RESPONSE);
    EXPECT_EQ(decode_code(make_response(0, {}, std::string(VGPU_MAX_DATA + 2, 'x'))),
              VGPU_E_BAD_RESPONSE);
    EXPECT_EQ(decode_code(make_response(0, {}, std::string(100'000, 'x'))), VGPU_E_BAD_RESPONSE);
}

TEST(DecodeCompletion, RefusesShortAnswersAndOtherVersions) {
    const Bytes whole = make_response(0);
    for (std::size_t length = 0; length < whole.size(); ++length) {
        EXPECT_EQ(decode_code(Bytes(whole.begin(), whole.begin() + static_cast<long>(length))),
                  VGPU_E_BAD_RESPONSE);
    }
    EXPECT_EQ(decode_with([](auto& h) { h.version = 0x00020000; }), VGPU_E_BAD_RESPONSE);
    EXPECT_EQ(decode_with([](auto& h) { h.version = 0x00010003; }), VGPU_OK);
    EXPECT_EQ(decode_with([](auto& h) { h.status = 5; }), VGPU_E_BAD_RESPONSE);
}

TEST(DecodeCompletion, EveryErrorCodeKeepsItsNumberAndHasASentence) {
    for (std::uint32_t code = 1; code <= 0xFF; ++code) {
        const auto reply = decode_completion(completion_of({}, code));
        ASSERT_FALSE(reply);
        EXPECT_EQ(reply.failure().code, static_cast<int>(code));
        EXPECT_FALSE(reply.failure().message.empty());
    }
    EXPECT_EQ(decode_code({}, 0x12345), VGPU_E_BAD_RESPONSE);
}

TEST(DecodeCompletion, PassesOnTheMediatorsSentence) {
    const auto reply = decode_completion(
        completion_of(make_response(VGPU_ERR_INVALID_REQUEST, {}, "two params, not \x1b[3\n"),
                      VGPU_ERR_INVALID_REQUEST));
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.failure().message, "two params, not  [3") << "fit for a terminal";
}

TEST(DecodeCompletion, AnOlderSentenceIsNotTakenForThisErrors) {
    const auto reply = decode_completion(
        completion_of(make_response(VGPU_ERR_INVALID_REQUEST, {}, "old"), VGPU_ERR_TIMEOUT));
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.failure().message, vgpu_code_text(VGPU_ERR_TIMEOUT));
}

TEST(Codes, EachHasItsOwnName) {
    std::map<std::string, int> names;
    for (int code = 0; code <= VGPU_E_DEVICE_LOST; ++code) {
        const std::string name = vgpu_code_name(code);
        if (name != "unknown" && name != "cuda-specific") {
            EXPECT_TRUE(names.emplace(name, code).second) << name;
        }
    }
    for (int code = VGPU_E_NO_DEVICE; code <= VGPU_E_DEVICE_LOST; ++code) {
        EXPECT_STRNE(vgpu_code_name(code), "unknown") << code;
    }
    EXPECT_STREQ(vgpu_code_name(VGPU_ERR_MEDIATOR_UNAVAILABLE), "mediator-unavailable");
    EXPECT_STREQ(vgpu_code_name(0xF7), "cuda-specific");
    EXPECT_STREQ(vgpu_code_name(-1), "unknown");
}

}  // namespace
}  // namespace vgpu::client::test
