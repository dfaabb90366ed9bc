// A system under test for MLPerf's LoadGen: the scenarios Server, Offline, SingleStream and
// MultiStream of ResNet-50, by LoadGen's own rules for it. docs/LOADGEN.md says how to build it.
//
//     loadgen --scenario Server --target-qps 50000 --backend null --out FOLDER
//     loadgen --scenario Offline --mode accuracy --weights MODEL --dataset FOLDER --out FOLDER
//
// Answers go to LoadGen right from the engine's thread: the class as a 32-bit integer. LoadGen
// knows no failed answer, so a request that fails ends the program with its reason and status 1,
// and no result is written.
#include <twinstream.h>

#include <loadgen.h>
#include <query_sample_library.h>
#include <system_under_test.h>
#include <test_settings.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

using mlperf::QuerySampleIndex;
using mlperf::TestMode;
using mlperf::TestScenario;

// How many samples are in memory during a performance run, by MLPerf's rules.
constexpr std::size_t performance_sample_len = 1024;

// Ends the program, on whichever thread: LoadGen would wait for an answer that never comes.
[[noreturn]] void fail(const std::string &reason, int status = 1) {
    std::fprintf(stderr, "loadgen: %s\n", reason.c_str());
    std::_Exit(status);
}

std::string text(twinstream_status status) {
    return std::string(twinstream_status_name(status)) + ": " + twinstream_last_error();
}

void check(const char *what, twinstream_status status) {
    if (status != TWINSTREAM_OK) fail(std::string(what) + ": " + text(status));
}

struct Settings {
    mlperf::TestSettings rules; // what MLPerf asks for
    mlperf::TestSettings test;  // the same with what the options change
    std::string scenario = "SingleStream";
    std::string backend = "cpu";
    std::string weights;
    std::string dataset;
    std::string out;
};

double number(const std::string &name, const std::string &value) {
    char *end = nullptr;
    const double found = std::strtod(value.c_str(), &end);
    if (end == value.c_str() || *end != 0 || !(found > 0)) {
        fail(name + ": expected a number above 0, got " + value, 2);
    }
    return found;
}

template <class Value>
Value choice(const std::string &name, const std::string &value,
             const std::map<std::string, Value> &choices) {
    const auto found = choices.find(value);
    if (found != choices.end()) return found->second;
    std::string names;
    for (const auto &entry : choices) names += (names.empty() ? "" : ", ") + entry.first;
    fail(name + ": expected one of " + names + ", got " + value, 2);
}

const std::map<std::string, TestScenario> scenarios = {
    {"Server", TestScenario::Server},
    {"Offline", TestScenario::Offline},
    {"SingleStream", TestScenario::SingleStream},
    {"MultiStream", TestScenario::MultiStream},
};
const std::map<std::string, TestMode> modes = {
    {"performance", TestMode::PerformanceOnly},
    {"accuracy", TestMode::AccuracyOnly},
};
const std::map<std::string, std::int32_t> backends = {
    {"null", TWINSTREAM_BACKEND_NULL},
    {"cpu", TWINSTREAM_BACKEND_CPU},
    {"cuda", TWINSTREAM_BACKEND_CUDA},
};

// The options by their names, which are those of LoadGen's user.conf where it has them.
Settings parse(int argument_len, char **arguments) {
    std::map<std::string, std::string> given = {
        {"--scenario", "SingleStream"},
        {"--mode", "performance"},
        {"--backend", "cpu"},
        {"--weights", ""},
        {"--dataset", ""},
        {"--out", ""},
        {"--target-qps", ""},
        {"--target-latency", ""},
        {"--min-duration", ""},
        {"--min-query-count", ""},
    };
    for (int i = 1; i < argument_len; i += 2) {
        const auto option = given.find(arguments[i]);
        if (option == given.end() || i + 1 == argument_len) {
            std::string usage = std::string("usage: ") + arguments[0];
            for (const auto &entry : given) usage += " [" + entry.first + " VALUE]";
            fail(usage, 2);
        }
        option->second = arguments[i + 1];
    }
    const auto when_given = [&](const char *name, auto &&use) {
        if (!given[name].empty()) use(number(name, given[name]));
    };

    Settings settings;
    settings.scenario = given["--scenario"];
    settings.backend = given["--backend"];
    settings.weights = given["--weights"];
    settings.dataset = given["--dataset"];
    settings.out = given["--out"];
    choice("--backend", settings.backend, backends);
    auto &test = settings.test;
    test.scenario = choice("--scenario", settings.scenario, scenarios);
    test.mode = choice("--mode", given["--mode"], modes);
    // LoadGen carries the rules' settings (mlperf.conf); 0 stands for them.
    test.FromConfig("", "resnet50", settings.scenario, 0);
    settings.rules = test;
    when_given("--target-qps",
               [&](double qps) { test.server_target_qps = test.offline_expected_qps = qps; });
    when_given("--target-latency", [&](double latency_ms) {
        test.server_target_latency_ns = static_cast<std::uint64_t>(latency_ms * 1e6);
        test.single_stream_expected_latency_ns = latency_ms * 1e6;
        test.multi_stream_expected_latency_ns = latency_ms * 1e6;
    });
    when_given("--min-duration", [&](double duration_ms) {
        test.min_duration_ms = static_cast<std::uint64_t>(duration_ms);
    });
    when_given("--min-query-count", [&](double query_len) {
        test.min_query_count = static_cast<std::uint64_t>(query_len);
    });
    if (settings.out.empty()) fail("--out: where do LoadGen's logs go?", 2);
    if (settings.backend != "null" && settings.weights.empty()) {
        fail("--weights: the backend " + settings.backend + " needs a safetensors file", 2);
    }
    if (settings.dataset.empty() &&
        (settings.backend != "null" || test.mode == TestMode::AccuracyOnly)) {
        fail("--dataset: a folder with images.rgb is needed", 2);
    }
    return settings;
}

struct Destroy {
    void operator()(twinstream_engine *engine) const { twinstream_engine_destroy(engine); }
};

using Engine = std::unique_ptr<twinstream_engine, Destroy>;

Engine open(const Settings &settings) {
    twinstream_options options;
    check("options", twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION));
    options.backend = backends.at(settings.backend);
    if (!settings.weights.empty()) options.weights_path = settings.weights.c_str();
    const auto &test = settings.test;
    if (test.scenario == TestScenario::Server) {
        // Late answers spoil the 99th percentile by themselves; a thread that the system held up
        // for a moment is no reason to end the run.
        const auto wanted = std::min(test.server_target_qps / 4, 32768.0);
        options.slot_len = std::max(options.slot_len, static_cast<std::uint64_t>(wanted));
    }
    twinstream_engine *engine = nullptr;
    check("engine", twinstream_engine_create(&options, &engine));
    return Engine(engine);
}

twinstream_geometry geometry(const Engine &engine) {
    twinstream_geometry geometry{};
    geometry.struct_size = sizeof geometry;
    check("geometry", twinstream_engine_geometry(engine.get(), &geometry));
    return geometry;
}

// The images of images.rgb, one behind the other as the network sees them: u8 RGB, height x width
// x 3. Without a file, which the null backend does not need, they are grey.
class Images : public mlperf::QuerySampleLibrary {
   public:
    Images(const std::string &folder, std::size_t image_bytes)
        : image_bytes_(image_bytes), path_(folder + "/images.rgb"), has_file_(!folder.empty()) {
        if (!has_file_) {
            images_.resize(performance_sample_len);
            return;
        }
        std::error_code error;
        const auto bytes = std::filesystem::file_size(path_, error);
        if (error) fail(path_ + ": " + error.message());
        if (bytes == 0 || bytes % image_bytes != 0) {
            fail(path_ + ": " + std::to_string(bytes) + " bytes are no whole number of images of " +
                 std::to_string(image_bytes) + " bytes, the network's size");
        }
        images_.resize(bytes / image_bytes);
    }

    const std::string &Name() override { return name_; }
    std::size_t TotalSampleCount() override { return images_.size(); }
    std::size_t PerformanceSampleCount() override {
        return std::min(images_.size(), performance_sample_len);
    }

    void LoadSamplesToRam(const std::vector<QuerySampleIndex> &samples) override {
        std::ifstream file;
        if (has_file_) file.open(path_, std::ios::binary);
        for (const auto sample : samples) {
            auto &image = images_.at(sample);
            image.assign(image_bytes_, 128);
            if (!has_file_) continue;
            file.seekg(static_cast<std::streamoff>(sample * image_bytes_));
            file.read(reinterpret_cast<char *>(image.data()),
                      static_cast<std::streamsize>(image_bytes_));
            if (!file) fail(path_ + ": sample " + std::to_string(sample) + " cannot be read");
        }
    }

    void UnloadSamplesFromRam(const std::vector<QuerySampleIndex> &samples) override {
        for (const auto sample : samples) images_.at(sample) = {};
    }

    const std::uint8_t *pixels(QuerySampleIndex sample) const { return images_[sample].data(); }

   private:
    std::string name_ = "images.rgb";
    std::size_t image_bytes_;
    std::string path_;
    bool has_file_;
    std::vector<std::vector<std::uint8_t>> images_;
};

class System : public mlperf::SystemUnderTest {
   public:
    System(const Settings &settings, const Engine &engine, const Images &images)
        : settings_(settings), engine_(engine.get()), geometry_(geometry(engine)), images_(images) {
    }

    const std::string &Name() override { return name_; }
    void FlushQueries() override {}

    void IssueQuery(const std::vector<mlperf::QuerySample> &samples) override {
        // A query of MultiStream is one request; Offline's only query has all samples.
        const bool is_one = settings_.test.scenario == TestScenario::MultiStream;
        const std::size_t len = is_one ? samples.size() : 1;
        for (std::size_t first = 0; first < samples.size(); first += len) {
            submit(samples.data() + first, len);
        }
    }

   private:
    struct Query {
        System *system;
        std::vector<mlperf::ResponseId> ids;
    };

    void submit(const mlperf::QuerySample *samples, std::size_t len) {
        // More samples than there are slots come in Offline alone, where waiting costs nothing.
        const bool waits = settings_.test.scenario == TestScenario::Offline;
        twinstream_request request;
        std::vector<std::uint8_t *> images(len);
        const auto status = twinstream_lease_many(engine_, len, waits ? TWINSTREAM_FOREVER : 0,
                                                  &request, images.data());
        if (status == TWINSTREAM_FULL) {
            fail("every slot is in use, as queries come faster than they are answered: lower "
                 "--target-qps");
        }
        check("lease", status);
        auto query = std::make_unique<Query>();
        query->system = this;
        for (std::size_t i = 0; i < len; i++) {
            query->ids.push_back(samples[i].id);
            std::memcpy(images[i], images_.pixels(samples[i].index), geometry_.image_bytes);
        }
        twinstream_request_options options{};
        options.struct_size = sizeof options;
        options.notice = TWINSTREAM_NOTICE_CALLBACK;
        options.callback = answered;
        options.user_data = query.release();
        check("commit", twinstream_commit(engine_, request, &options));
    }

    // On the engine's thread, once for each request.
    static void answered(void *user_data, twinstream_request request, twinstream_status status,
                         const float *) noexcept {
        const std::unique_ptr<Query> query(static_cast<Query *>(user_data));
        if (status != TWINSTREAM_OK) {
            fail(std::string("a request was answered with ") + twinstream_status_name(status));
        }
        query->system->complete(*query, request);
    }

    void complete(const Query &query, twinstream_request request) {
        const std::size_t len = query.ids.size();
        std::vector<const float *> results(len);
        check("results", twinstream_results(engine_, request, len, nullptr, results.data()));
        std::vector<std::int32_t> classes(len);
        std::vector<mlperf::QuerySampleResponse> responses;
        for (std::size_t i = 0; i < len; i++) {
            const float *best = std::max_element(results[i], results[i] + geometry_.result_len);
            classes[i] = static_cast<std::int32_t>(best - results[i]);
            responses.emplace_back(query.ids[i], reinterpret_cast<std::uintptr_t>(&classes[i]),
                                   sizeof classes[i]);
        }
        check("release", twinstream_release(engine_, request));
        mlperf::QuerySamplesComplete(responses.data(), responses.size());
    }

    std::string name_ = "twinstream";
    const Settings &settings_;
    twinstream_engine *engine_;
    twinstream_geometry geometry_;
    const Images &images_;
};

// Says what keeps the run from being one by MLPerf's rules.
void compare_with_rules(const Settings &settings, std::size_t sample_len) {
    const auto &rules = settings.rules;
    const auto &test = settings.test;
    const auto say = [](const char *name, std::uint64_t is, const char *wanted,
                        std::uint64_t rule) {
        std::printf("not by MLPerf's rules: %s is %llu, the rules want %s %llu\n", name,
                    static_cast<unsigned long long>(is), wanted,
                    static_cast<unsigned long long>(rule));
    };
    if (sample_len < performance_sample_len) {
        say("the number of images", sample_len, "at least", performance_sample_len);
    }
    if (test.mode == TestMode::AccuracyOnly) return;
    if (test.min_duration_ms < rules.min_duration_ms) {
        say("min-duration", test.min_duration_ms, "at least", rules.min_duration_ms);
    }
    if (test.min_query_count < rules.min_query_count) {
        say("min-query-count", test.min_query_count, "at least", rules.min_query_count);
    }
    if (test.scenario == TestScenario::Server &&
        test.server_target_latency_ns > rules.server_target_latency_ns) {
        say("target-latency in ns", test.server_target_latency_ns, "at most",
            rules.server_target_latency_ns);
    }
}

} // namespace

int main(int argument_len, char **arguments) {
    Settings settings = parse(argument_len, arguments);
    std::error_code error;
    std::filesystem::create_directories(settings.out, error);
    if (error) fail(settings.out + ": " + error.message());
    const Engine engine = open(settings);
    Images images(settings.dataset, geometry(engine).image_bytes);
    compare_with_rules(settings, images.TotalSampleCount());
    settings.test.performance_sample_count_override = images.PerformanceSampleCount();
    System system(settings, engine, images);
    mlperf::LogSettings logs;
    logs.log_output.outdir = settings.out;
    logs.log_output.copy_summary_to_stdout = true;
    logs.enable_trace = false;
    mlperf::StartTest(&system, &images, settings.test, logs);
}
