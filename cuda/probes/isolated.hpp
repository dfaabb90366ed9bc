// Runs the variants of a question whose wrong guesses may fault or hang, so that one that does
// hides no other's answer.
//
// After a fault on the device a process can no longer use CUDA. Variants therefore run in a child,
// one after the other, and behind one that ended its child the next begins in a new one. The
// parent must not use CUDA itself: a child could not begin anew.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <string>

#include "probe.hpp"

namespace twinstream::probes {

// With the start of CUDA, which takes seconds on machines of many GPUs: a variant by itself takes
// none. scripts/gpu.sh leaves time for two that hang.
constexpr unsigned VARIANT_SECONDS_MAX = 10;
constexpr unsigned NO_VARIANT = ~0u;

// An answer: whether all elements are right, and how many are not.
inline std::string verdict(unsigned wrong_len) {
    return "\"wrong_len\": " + std::to_string(wrong_len) +
           ", \"exact\": " + (wrong_len == 0 ? "true" : "false");
}

// Waits for the child and says how it failed; empty if it did not. One that stays at a variant for
// too long is ended.
inline std::string failure(pid_t child, const std::atomic<unsigned> &variant) {
    using Clock = std::chrono::steady_clock;
    unsigned seen = variant;
    Clock::time_point since = Clock::now();
    int status = 0;
    for (;;) {
        const pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child) break;
        if (ended < 0) return "lost";
        if (variant != seen) {
            seen = variant;
            since = Clock::now();
        }
        if (Clock::now() - since > std::chrono::seconds(VARIANT_SECONDS_MAX)) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return "timed out";
        }
        const timespec pause{0, 1000000};
        nanosleep(&pause, nullptr);
    }
    if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
    return WEXITSTATUS(status) == 0 ? "" : "error";
}

// The child's part: prints an answer for each variant from `first` on.
template <class Fields, class Answer>
void answer_from(unsigned first, unsigned len, std::atomic<unsigned> &variant, const char *probe,
                 Fields fields, Answer answer) {
    if (device().major != 9) {
        std::printf("{\"probe\": \"%s\", \"skipped\": \"needs compute capability 9.x\"}\n", probe);
        return;
    }
    for (unsigned i = first; i < len; ++i) {
        variant = i;
        const std::string found = answer(i);
        std::printf("{\"probe\": \"%s\", %s, %s}\n", probe, fields(i).c_str(), found.c_str());
        std::fflush(stdout);
    }
}

// Prints a result for each variant below `len`: fields(variant) names it, answer(variant) is what
// was found, both as members of a JSON object. Returns the exit status: 1 if a variant failed.
template <class Fields, class Answer>
int run_isolated(const char *probe, unsigned len, Fields fields, Answer answer) {
    void *const shared = mmap(nullptr, sizeof(std::atomic<unsigned>), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        std::perror("mmap");
        return 1;
    }
    std::atomic<unsigned> &variant = *new (shared) std::atomic<unsigned>;
    int exit_status = 0;
    for (unsigned first = 0; first < len; first = variant + 1) {
        variant = NO_VARIANT;
        // What is still buffered would be printed by both.
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child < 0) {
            std::perror("fork");
            return 1;
        }
        if (child == 0) {
            answer_from(first, len, variant, probe, fields, answer);
            std::fflush(stdout);
            _exit(0);
        }
        const std::string why = failure(child, variant);
        if (why.empty()) break;
        exit_status = 1;
        // Without a device or driver no variant is ever reached.
        if (variant == NO_VARIANT) {
            std::fprintf(stderr, "%s: %s before the first variant\n", probe, why.c_str());
            break;
        }
        std::printf("{\"probe\": \"%s\", %s, \"failed\": \"%s\"}\n", probe, fields(variant).c_str(),
                    why.c_str());
    }
    return exit_status;
}

} // namespace twinstream::probes
