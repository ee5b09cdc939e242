// SPDX-License-Identifier: MIT
//
// The old file protocol, served by the real daemon: what old clients write, what a hostile VM puts
// into its folder, and VMs that use files and a device at the same time.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::test {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

constexpr std::chrono::seconds kLimit{20};

std::string read_file(const fs::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// Writes in place, as old clients do. One call per file.
void write_file(const fs::path& path, const std::string& text) {
    const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    ASSERT_TRUE(file) << path;
    ASSERT_EQ(::write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

// Waits until `holds` does. Polls, as clients of the file protocol do.
template <typename Condition>
bool eventually(Condition holds, std::chrono::milliseconds limit = kLimit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!holds()) {
        if (std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

std::uint32_t ask_sum(WirePeer& peer, std::uint32_t a, std::uint32_t b) {
    peer.send_request(1, make_add(a, b));
    const auto answer = peer.receive();
    return answer ? answer->word(0).value_or(0) : 0;
}

struct Files : testing::Test {
    TempDir dir;
    fs::path share = dir.path() / "share";
    std::string socket = dir.file("s");
    std::unique_ptr<Process> process;

    Files() { fs::create_directory(share); }

    fs::path folder(std::uint32_t vm) const { return share / ("vm" + std::to_string(vm)); }
    fs::path request(std::uint32_t vm) const { return folder(vm) / "request.txt"; }
    fs::path response(std::uint32_t vm) const { return folder(vm) / "response.txt"; }

    // Further keys of [files], further tables, what runs the daemon, further keys of [mediator].
    void start(const std::string& files = {}, const std::string& more = {}, Args before = {},
               const std::string& mediator = {}) {
        std::ofstream(dir.file("config.toml"))
            << "[mediator]\nbackend = \"cpu\"\nsockets = [\"" << socket << "\"]\n"
            << mediator << "[files]\ndirectory = \"" << share.string() << "\"\n"
            << files << more;
        Args command = std::move(before);
        for (const std::string& word :
             {std::string(VGPU_MEDIATOR_PATH), std::string("--config"), dir.file("config.toml")}) {
            command.push_back(word);
        }
        process = std::make_unique<Process>(command);
        ASSERT_TRUE(process->wait_for_output("ready")) << process->output();
    }

    // Waits for a whole response line and returns it.
    std::string response_of(std::uint32_t vm) const {
        std::string text;
        static_cast<void>(eventually([&] {
            text = read_file(response(vm));
            return text.ends_with('\n');
        }));
        return text;
    }
    // As an old client: clears the response, writes the request, polls for the response.
    std::string ask(std::uint32_t vm, const std::string& text) const {
        fs::create_directories(folder(vm));
        write_file(response(vm), "");
        write_file(request(vm), text);
        return response_of(vm);
    }
    // Ids of the children of the daemon.
    std::vector<pid_t> children() const {
        std::vector<pid_t> pids;
        const std::string pid = std::to_string(process->pid());
        std::ifstream list("/proc/" + pid + "/task/" + pid + "/children");
        for (pid_t child = 0; list >> child;) {
            pids.push_back(child);
        }
        return pids;
    }
};

TEST_F(Files, AreOffByDefault) {
    fs::create_directory(folder(1));
    write_file(request(1), "A:2:1:100:200\n");
    process =
        std::make_unique<Process>(Args{VGPU_MEDIATOR_PATH, "--backend", "cpu", "--socket", socket});
    ASSERT_TRUE(process->wait_for_output("ready"));
    EXPECT_TRUE(children().empty());
    EXPECT_EQ(process->output().find("files"), std::string::npos);
}

// In both ways to notice a request.
TEST_F(Files, AnswerOldClients) {
    const std::vector<std::pair<std::string, std::string>> lines{
        {"A:2:1:100:200\n", "300\n"},    {"A:2:1:100:200\r\n", "300\n"},
        {"B:0:1:-5:3\n", "-2\n"},        {"A:1:1:2147483647:1\n", "-2147483648\n"},
        {"A:1:1:4294967295:1\n", "0\n"}, {" A:1:1: 007:+8 \n\n", "15\n"},
    };
    for (const char* const settings :
         {"notify = \"auto\"\n", "notify = \"never\"\ninterval_ms = 5\n"}) {
        start(settings);
        for (const auto& [line, sum] : lines) {
            EXPECT_EQ(ask(1, line), sum) << line;
            // Cleared when it was taken.
            EXPECT_EQ(read_file(request(1)), "") << line;
        }
        process->signal(SIGTERM);
        EXPECT_EQ(process->wait(), 0);
    }
}

TEST_F(Files, TakeARequestOnce) {
    start("notify = \"never\"\ninterval_ms = 1\n");
    for (int i = 0; i < 50; ++i) {
        ASSERT_EQ(ask(1, "A:2:1:" + std::to_string(i) + ":1\n"), std::to_string(i + 1) + "\n");
    }
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
    // Of the table at the end: accepted, done.
    std::istringstream row(process->output().substr(process->output().find("\n  vm 1 ") + 8));
    int accepted = 0;
    int done = 0;
    row >> accepted >> done;
    EXPECT_EQ(accepted, 50);
    EXPECT_EQ(done, 50);
}

TEST_F(Files, WaitForTheRestOfALine) {
    start("partial_ms = 600000\n");
    fs::create_directory(folder(1));
    write_file(request(1), "A:2:1:100:2");
    // The half line has been seen once another VM that wrote later was served, and once more.
    EXPECT_EQ(ask(2, "A:2:2:1:1\n"), "2\n");
    EXPECT_EQ(ask(2, "A:2:2:1:1\n"), "2\n");
    EXPECT_EQ(read_file(request(1)), "A:2:1:100:2");
    std::ofstream(request(1), std::ios::app) << "00\n";
    EXPECT_EQ(response_of(1), "300\n");
}

TEST_F(Files, TakeALineWithoutABreakOnceItNoLongerChanges) {
    start("partial_ms = 20\n");
    EXPECT_EQ(ask(1, "A:2:1:100:200"), "300\n");
    EXPECT_EQ(read_file(request(1)), "");
}

TEST_F(Files, IgnoreABlankRequest) {
    start();
    fs::create_directory(folder(1));
    write_file(request(1), "\n");  // echo > request.txt
    EXPECT_EQ(ask(2, "A:2:2:1:1\n"), "2\n");
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    EXPECT_EQ(process->output().find("warning"), std::string::npos) << process->output();
}

TEST_F(Files, ExplainWhatIsWrongWithARequest) {
    start();
    const std::vector<std::pair<std::string, std::string>> bad{
        {"garbage\n", "ERROR 0x01: 'garbage' is not a request"},
        {"A:2:4:1:1\n", "ERROR 0x01: the request names VM 4, but this is the folder of VM 3"},
        {"A:9:3:1:1\n", "ERROR 0x01: priority 9"},
        {"Z:2:3:1:1\n", "ERROR 0x06: this mediator does not serve pool Z"},
        {"A:2:3:1:1\nA:2:3:2:2\n", "ERROR 0x01: the request has more than one line"},
        {std::string(100'000, 'x'), "ERROR 0x01: the request is longer than 1024 bytes"},
    };
    for (const auto& [line, error] : bad) {
        const std::string answer = ask(3, line);
        EXPECT_EQ(answer.substr(0, error.size()), error);
        EXPECT_TRUE(process->wait_for_output(error.substr(12))) << process->output();
        EXPECT_EQ(read_file(request(3)), "");
    }
    EXPECT_EQ(ask(3, "A:2:3:1:1\n"), "2\n");
}

// Nothing outside the folder is read or written, and other VMs are served meanwhile.
TEST_F(Files, FollowNothingOutOfTheFolder) {
    const fs::path secret = dir.path() / "secret";
    for (std::uint32_t vm = 1; vm <= 8; ++vm) {
        fs::create_directory(folder(vm));
    }
    write_file(secret, "A:2:1:100:200\n");
    fs::create_symlink(secret, request(1));
    ASSERT_EQ(::mkfifo(request(2).c_str(), 0666), 0);
    fs::create_directory(request(3));
    const Fd bound(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    request(4).string().copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(bound.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    fs::create_hard_link(secret, request(5));
    fs::remove(folder(6));
    fs::create_directory(dir.path() / "elsewhere");
    write_file(dir.path() / "elsewhere" / "request.txt", "A:2:6:100:200\n");
    fs::create_symlink(dir.path() / "elsewhere", folder(6));
    fs::remove(folder(7));
    write_file(folder(7), "A:2:7:100:200\n");
    // Its response goes nowhere.
    write_file(request(8), "A:2:8:100:200\n");
    fs::create_symlink(secret, response(8));
    start("notify = \"never\"\ninterval_ms = 5\n");
    for (const char* const text :
         {"vm1/request.txt is a symbolic link", "vm2/request.txt is not a regular file",
          "vm3/request.txt is a folder", "vm4/request.txt is not a regular file",
          "vm5/request.txt has other hard links", "vm6 is a symbolic link", "vm7 is not a folder",
          "vm8/response.txt is a symbolic link"}) {
        EXPECT_TRUE(process->wait_for_output(text)) << text << '\n' << process->output();
    }
    EXPECT_EQ(ask(9, "A:2:9:1:1\n"), "2\n");
    EXPECT_EQ(read_file(secret), "A:2:1:100:200\n");
    EXPECT_EQ(read_file(dir.path() / "elsewhere" / "request.txt"), "A:2:6:100:200\n");
    // The response of VM 8 was kept, and is written once that is possible.
    fs::remove(response(8));
    EXPECT_EQ(response_of(8), "300\n");
}

// A device and files of one VM are used at the same time, and neither takes the other's id.
TEST_F(Files, ShareTheVmIdWithADevice) {
    start();
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    WirePeer device = WirePeer::connect(socket);
    device.vm_id = 1;
    EXPECT_EQ(ask_sum(device, 100, 200), 300U);
    for (std::uint32_t i = 0; i < 20; ++i) {
        ASSERT_EQ(ask_sum(device, i, 1), i + 1);
        ASSERT_EQ(ask(1, "A:2:1:" + std::to_string(i) + ":1\n"), std::to_string(i + 1) + "\n");
    }
    // A second device is still refused.
    WirePeer second = WirePeer::connect(socket);
    second.vm_id = 1;
    second.send_request(1, make_add(1, 1));
    const auto refused = second.receive();
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->response().status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

TEST_F(Files, AreServedForRegisteredVms) {
    start({}, "[[vm]]\nid = 1\nuser = 65534\n");
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
}

TEST_F(Files, AreNotServedForOtherVmsThanRegisteredOnes) {
    start({}, "[[vm]]\nid = 1\nuser = 65534\n", {}, "registered_vms_only = true\n");
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    EXPECT_EQ(ask(2, "A:2:2:1:1\n").substr(0, 10), "ERROR 0x03");
}

// A VM that changes its pool with each request has one connection all the same.
TEST_F(Files, UseOneConnectionForAllPools) {
    start("notify = \"never\"\ninterval_ms = 1\n");
    for (int i = 0; i < 20; ++i) {
        ASSERT_EQ(
            ask(1, std::string(i % 2 == 0 ? "A" : "B") + ":" + std::to_string(i % 3) + ":1:1:1\n"),
            "2\n");
    }
    EXPECT_EQ(process->output().find("conn=2"), std::string::npos) << process->output();
}

// A check changes nothing that would cause the next one.
TEST_F(Files, SleepWhileNothingHappens) {
    start();
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    ASSERT_EQ(children().size(), 1U);
    const std::string tasks = "/proc/" + std::to_string(children().front()) + "/task";
    const auto switches = [&] {
        std::uint64_t sum = 0;
        for (const auto& task : fs::directory_iterator(tasks)) {
            std::ifstream status(task.path() / "status");
            for (std::string word; status >> word;) {
                std::uint64_t count = 0;
                if (word == "voluntary_ctxt_switches:" && status >> count) {
                    sum += count;
                }
            }
        }
        return sum;
    };
    // What the request caused is over when nothing changes for a tenth of a second.
    EXPECT_TRUE(eventually([&] {
        const auto before = switches();
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        return switches() - before < 10;
    }));
}

// The client of a request that gave up would take the response for that of its next request.
TEST_F(Files, DropAResponseThatIsNotAwaited) {
    start();
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    process->signal(SIGSTOP);
    write_file(response(1), "");
    write_file(request(1), "A:2:1:100:200\n");
    EXPECT_TRUE(eventually([&] { return read_file(request(1)).empty(); }));
    write_file(request(1), "A:2:1:5:6\n");
    process->signal(SIGCONT);
    EXPECT_EQ(response_of(1), "11\n");
    EXPECT_TRUE(process->wait_for_output("that response is dropped")) << process->output();
}

TEST_F(Files, WriteTheResponseToTheFolderThatIsThere) {
    start();
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    process->signal(SIGSTOP);
    write_file(request(1), "A:2:1:100:200\n");
    EXPECT_TRUE(eventually([&] { return read_file(request(1)).empty(); }));
    fs::rename(folder(1), share / "old");
    fs::create_directory(folder(1));
    process->signal(SIGCONT);
    EXPECT_EQ(response_of(1), "300\n");
}

TEST_F(Files, ReportAResponseThatIsLost) {
    fs::create_directory(folder(1));
    fs::create_symlink("/nowhere", response(1));
    start();
    write_file(request(1), "A:2:1:100:200\n");
    EXPECT_TRUE(process->wait_for_output("response.txt is a symbolic link"));
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
    EXPECT_TRUE(process->wait_for_output("a response could not be written and is lost"))
        << process->output();
}

TEST_F(Files, BelongToOneMediator) {
    start();
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    const std::unique_ptr<Process> first = std::move(process);
    socket = dir.file("s2");
    start();
    EXPECT_TRUE(process->wait_for_output("another mediator on this host serves the files"))
        << process->output();
    first->signal(SIGTERM);
    EXPECT_EQ(first->wait(), 0);
    EXPECT_EQ(ask(1, "A:2:1:1:2\n"), "3\n");
}

TEST_F(Files, ObeyTheLimitsOfTheVm) {
    start({}, "[[vm]]\nid = 1\nrequests_per_second = 1\nburst = 1\n");
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    EXPECT_EQ(ask(1, "A:2:1:1:1\n").substr(0, 10), "ERROR 0x0A");
    EXPECT_EQ(ask(2, "A:2:2:1:1\n"), "2\n");
}

TEST_F(Files, NoticeFoldersThatComeAndGo) {
    start();
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    EXPECT_EQ(ask(70, "A:2:70:1:1\n"), "2\n");
    fs::remove_all(folder(1));
    EXPECT_EQ(ask(1, "A:2:1:1:2\n"), "3\n");
    // A new folder takes the place of the old one.
    fs::create_directory(share / "new");
    fs::rename(folder(1), share / "old");
    fs::rename(share / "new", folder(1));
    EXPECT_EQ(ask(1, "A:2:1:1:3\n"), "4\n");
    EXPECT_EQ(read_file(share / "old" / "request.txt"), "");
}

TEST_F(Files, SayThatTheFolderIsMissing) {
    fs::remove(share);
    start("interval_ms = 20\n");
    EXPECT_TRUE(process->wait_for_output("cannot read the folder " + share.string()))
        << process->output();
    fs::create_directory(share);
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    EXPECT_TRUE(process->wait_for_output("can be read again"));
}

TEST_F(Files, GatewayIsStartedAgain) {
    start();
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    ASSERT_EQ(children().size(), 1U);
    ASSERT_EQ(::kill(children().front(), SIGKILL), 0);
    EXPECT_TRUE(process->wait_for_output("the file gateway was killed by signal 9"))
        << process->output();
    EXPECT_EQ(ask(1, "A:2:1:1:2\n"), "3\n");
}

TEST_F(Files, GatewayEndsWithTheMediator) {
    start();
    EXPECT_EQ(ask(1, "A:2:1:1:1\n"), "2\n");
    ASSERT_EQ(children().size(), 1U);
    const std::string gateway = "/proc/" + std::to_string(children().front());
    process->signal(SIGKILL);
    EXPECT_EQ(process->wait(), 128 + SIGKILL);
    EXPECT_TRUE(eventually([&] { return !fs::exists(gateway + "/exe"); }));
}

TEST_F(Files, GatewayIsNotForUsers) {
    const auto [status, output] = run_program({VGPU_MEDIATOR_PATH, "--file-gateway"});
    EXPECT_EQ(status, 2);
    EXPECT_NE(output.find("is started by vgpu-mediator"), std::string::npos) << output;
}

// On a file system that the daemon mounts itself.
struct FilesOnAMount : Files {
    void SetUp() override {
        if (::geteuid() != 0 || run_program({"unshare", "-m", "true"}).first != 0) {
            GTEST_SKIP() << "SKIPPED: needs root and mount namespaces";
        }
    }
    // `mounts`: shell commands that run before the daemon, with $0 as the share.
    void start_with(const std::string& mounts) {
        start("notify = \"never\"\ninterval_ms = 5\n", {},
              {"unshare", "-m", "--propagation", "private", "sh", "-ec", mounts + "\nexec \"$@\"",
               share.string()});
    }
    // The share as the daemon sees it.
    fs::path seen() const {
        return "/proc/" + std::to_string(process->pid()) + "/root" + share.string();
    }
};

TEST_F(FilesOnAMount, SayThatTheShareIsReadOnly) {
    fs::create_directory(folder(1));
    write_file(request(1), "A:2:1:100:200\n");
    start_with("mount --bind \"$0\" \"$0\"; mount -o remount,bind,ro \"$0\"");
    EXPECT_TRUE(process->wait_for_output("read-only for the mediator")) << process->output();
    EXPECT_EQ(read_file(request(1)), "A:2:1:100:200\n");
    EXPECT_FALSE(fs::exists(response(1)));
}

TEST_F(FilesOnAMount, KeepAResponseWhileTheDiskIsFull) {
    // Room for the root, vm1, the request and one more file, but not for a response.
    start_with(
        "mount -t tmpfs -o nr_inodes=4 none \"$0\"; mkdir \"$0/vm1\"; : > \"$0/full\"\n"
        "echo A:2:1:100:200 > \"$0/vm1/request.txt\"");
    EXPECT_TRUE(process->wait_for_output("make room on the share")) << process->output();
    EXPECT_EQ(read_file(seen() / "vm1" / "request.txt"), "");
    fs::remove(seen() / "full");
    std::string text;
    EXPECT_TRUE(eventually([&] {
        text = read_file(seen() / "vm1" / "response.txt");
        return text.ends_with('\n');
    })) << process->output();
    EXPECT_EQ(text, "300\n");
    EXPECT_TRUE(process->wait_for_output("can be used again"));
}

// A mounted file system whose server never answers.
class HungMount {
  public:
    explicit HungMount(std::string path)
        : path_(std::move(path)), fuse_(::open("/dev/fuse", O_RDWR | O_CLOEXEC)) {
        const std::string options =
            "fd=" + std::to_string(fuse_.get()) + ",rootmode=40000,user_id=0,group_id=0";
        mounted_ = fuse_ && ::mount("hung", path_.c_str(), "fuse", 0, options.c_str()) == 0;
    }
    HungMount(const HungMount&) = delete;
    HungMount& operator=(const HungMount&) = delete;
    ~HungMount() {
        if (mounted_) {
            ::umount2(path_.c_str(), MNT_DETACH);
        }
    }
    [[nodiscard]] bool mounted() const { return mounted_; }

  private:
    std::string path_;
    Fd fuse_;
    bool mounted_ = false;
};

TEST_F(Files, AreServedBesideAFileSystemThatDoesNotAnswer) {
    fs::create_directory(folder(1));
    const HungMount hung(folder(1));
    if (!hung.mounted()) {
        GTEST_SKIP() << "SKIPPED: cannot mount a FUSE file system (needs root and /dev/fuse)";
    }
    start();
    EXPECT_EQ(ask(2, "A:2:2:1:1\n"), "2\n");
    EXPECT_TRUE(process->wait_for_output(folder(1).string() + ": the file system has not answered",
                                         std::chrono::seconds(40)))
        << process->output();
    EXPECT_EQ(ask(2, "A:2:2:1:2\n"), "3\n");
    const auto gateways = children();
    ASSERT_EQ(gateways.size(), 1U);
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
    EXPECT_TRUE(eventually([&] { return ::kill(gateways.front(), 0) != 0; }));
}

// The guest's program and the daemon, without a device.
TEST_F(Files, CarryTheGuestsProgram) {
    start();
    fs::create_directory(folder(5));
    // A machine without a device.
    fs::create_directories(dir.path() / "sys/bus/pci/devices");
    const auto vgpu = [&](Args more) {
        more.insert(more.begin(), {VGPU_PROGRAM, "--sysfs-root", dir.file("sys")});
        return run_program(more, kLimit, {{"VGPU_FILES", share.string()}});
    };
    // The only folder is the VM's.
    auto [status, output] = vgpu({"--transport", "file:" + share.string(), "add", "100", "200"});
    EXPECT_EQ(status, 0) << output;
    EXPECT_NE(output.find("100 + 200 = 300"), std::string::npos) << output;
    std::tie(status, output) = vgpu({"--transport", "auto", "add", "-7", "3"});
    EXPECT_EQ(status, 0) << output;
    EXPECT_NE(output.find("no vgpu device: using the files in " + share.string()),
              std::string::npos)
        << output;
    EXPECT_NE(output.find("-7 + 3 = -4"), std::string::npos) << output;
    std::tie(status, output) =
        vgpu({"--transport", "file:" + share.string(), "--pool", "Z", "add", "1", "1"});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("does not serve pool Z"), std::string::npos) << output;
    EXPECT_NE(output.find("invalid-pool"), std::string::npos) << output;
    std::tie(status, output) = vgpu({"--transport", "file:" + share.string(), "info"});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("can only add two numbers"), std::string::npos) << output;
    std::tie(status, output) = vgpu({"--transport", "device", "add", "1", "1"});
    EXPECT_EQ(status, 1);
    EXPECT_EQ(output.find("files"), std::string::npos) << output;
    fs::create_directory(folder(6));
    std::tie(status, output) = vgpu({"--transport", "auto", "add", "1", "1"});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("(vm5, vm6): say which one"), std::string::npos) << output;
    std::tie(status, output) = vgpu({"--transport", "auto", "--vm-id", "6", "add", "1", "1"});
    EXPECT_EQ(status, 0) << output;
}

TEST_F(Files, GuestsProgramSaysThatTheFolderIsNotServed) {
    fs::create_directory(folder(5));
    const auto [status, output] =
        run_program({VGPU_PROGRAM, "--transport", "file:" + share.string(), "--timeout", "0.05",
                     "add", "1", "1"});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("whether the mediator serves this folder"), std::string::npos) << output;
    // Withdrawn: it is not served later, when the next program waits for its own response.
    EXPECT_EQ(read_file(request(5)), "");
}

TEST_F(Files, GuestsProgramFollowsNoLinks) {
    fs::create_directory(folder(5));
    const fs::path victim = dir.path() / "victim";
    const auto run = [&] {
        return run_program({VGPU_PROGRAM, "--transport", "file:" + share.string(), "--timeout",
                            "0.05", "add", "1", "1"});
    };
    for (const char* const name : {"request.txt", "response.txt"}) {
        write_file(victim, "precious");
        fs::remove(folder(5) / name);
        fs::create_symlink(victim, folder(5) / name);
        const auto [status, output] = run();
        EXPECT_EQ(status, 1);
        EXPECT_NE(output.find(std::string(name) + " is a symbolic link"), std::string::npos)
            << output;
        EXPECT_EQ(read_file(victim), "precious");
        fs::remove(folder(5) / name);
        ASSERT_EQ(::mkfifo((folder(5) / name).c_str(), 0666), 0);
        EXPECT_EQ(run().first, 1);
        fs::remove(folder(5) / name);
    }
}

}  // namespace
}  // namespace vgpu::test
