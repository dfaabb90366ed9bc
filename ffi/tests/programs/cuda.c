/* The CUDA backend from C: which device, what it was tuned to, what is computed in, mistakes, and
 * answers beside those of the processor: the best classes, and of 8-bit integers every bit.
 *
 *     cuda MODEL.safetensors CALIBRATED.safetensors
 */
#include "check.h"

enum {
    CLASS_LEN = 3,
    /* Values of the best classes, and of all logits. */
    BEST_LEN = 2 * CLASS_LEN,
    LOGIT_LEN = 10
};

static twinstream_options backend_options(const char *weights_path, int32_t backend) {
    twinstream_options options;
    CHECK_OK(twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION));
    options.weights_path = weights_path;
    options.backend = backend;
    options.slot_len = 4;
    options.batch_len_max = 4;
    options.top_k = CLASS_LEN;
    options.stall_timeout_ns = 3600 * SECOND_NS;
    return options;
}

static void refuse(const twinstream_options *options, twinstream_status status, const char *named) {
    twinstream_engine *engine = NULL;
    CHECK_STATUS(twinstream_engine_create(options, &engine), status);
    CHECK(strstr(twinstream_last_error(), named) != NULL);
    CHECK(engine == NULL);
}

static void refuse_device(const char *weights_path, const char *device, const char *tuning_path,
                          twinstream_status status, const char *named) {
    const twinstream_cuda_options cuda = {sizeof cuda, 0, device, tuning_path};
    twinstream_options options = backend_options(weights_path, TWINSTREAM_BACKEND_CUDA);
    options.cuda = &cuda;
    refuse(&options, status, named);
}

static void refuse_precision(const char *weights_path, const char *precision,
                             twinstream_status status, const char *named) {
    twinstream_options options = backend_options(weights_path, TWINSTREAM_BACKEND_CUDA);
    options.precision = precision;
    refuse(&options, status, named);
}

/* The answer for a grey image: its best classes and their probabilities, one after the other, or
 * where top_k is 0 its logits. */
static void classify(const twinstream_options *options, float *answer, uint64_t answer_len) {
    twinstream_engine *engine = NULL;
    twinstream_geometry geometry;
    twinstream_request request;
    const float *result = NULL;
    uint8_t *image;
    CHECK_OK(twinstream_engine_create(options, &engine));
    geometry.struct_size = sizeof geometry;
    CHECK_OK(twinstream_engine_geometry(engine, &geometry));
    CHECK(geometry.result_len == answer_len);
    CHECK_OK(twinstream_lease(engine, &request, &image));
    memset(image, 128, geometry.image_bytes);
    CHECK_OK(twinstream_commit(engine, request, NULL));
    CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, &result));
    memcpy(answer, result, answer_len * sizeof *answer);
    CHECK_OK(twinstream_release(engine, request));
    CHECK_OK(twinstream_engine_destroy(engine));
}

/* What the weights are made for is the default, and may be asked for. */
static void compute_in(const char *weights_path, const char *calibrated_path) {
    twinstream_options options;
    float expected[LOGIT_LEN], found[LOGIT_LEN];
    options = backend_options(calibrated_path, TWINSTREAM_BACKEND_CPU);
    options.top_k = 0;
    classify(&options, expected, LOGIT_LEN);
    for (int i = 0; i < 2; i++) {
        options = backend_options(calibrated_path, TWINSTREAM_BACKEND_CUDA);
        options.top_k = 0;
        options.precision = i == 0 ? NULL : "i8";
        classify(&options, found, LOGIT_LEN);
        CHECK(memcmp(found, expected, sizeof found) == 0);
    }
    options = backend_options(weights_path, TWINSTREAM_BACKEND_CUDA);
    options.top_k = 0;
    classify(&options, expected, LOGIT_LEN);
    CHECK(memcmp(found, expected, sizeof found) != 0);
    options.precision = "f16";
    classify(&options, found, LOGIT_LEN);
    CHECK(memcmp(found, expected, sizeof found) == 0);

    refuse_precision(weights_path, "i8", TWINSTREAM_ARGUMENT, "twinstream calibrate");
    refuse_precision(weights_path, "bf16", TWINSTREAM_ARGUMENT, "f16 or i8");
    refuse_precision(weights_path, "f32", TWINSTREAM_ARGUMENT, "f16 or i8");
    refuse_precision(weights_path, "f8", TWINSTREAM_ARGUMENT, "f8");
    refuse_precision(calibrated_path, "f16", TWINSTREAM_WEIGHTS, calibrated_path);
}

int main(int argument_len, char **arguments) {
    twinstream_options options;
    float expected[BEST_LEN], found[BEST_LEN];
    CHECK(argument_len == 3);
    refuse_device(arguments[1], "99", NULL, TWINSTREAM_ARGUMENT, "99");
    refuse_device(arguments[1], "the fast one", NULL, TWINSTREAM_ARGUMENT, "the fast one");
    refuse_device(arguments[1], NULL, __FILE__, TWINSTREAM_CONFIG, "cuda.c");
    compute_in(arguments[1], arguments[2]);

    options = backend_options(arguments[1], TWINSTREAM_BACKEND_CPU);
    classify(&options, expected, BEST_LEN);
    options = backend_options(arguments[1], TWINSTREAM_BACKEND_CUDA);
    for (int i = 0; i < 2; i++) {
        /* The first device, and the second by its UUID. */
        const char *device = i == 0 ? NULL : "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f";
        const twinstream_cuda_options cuda = {sizeof cuda, 0, device, NULL};
        options.cuda = &cuda;
        classify(&options, found, BEST_LEN);
        for (int j = 0; j < CLASS_LEN; j++) {
            CHECK(found[2 * j] == expected[2 * j]);
            CHECK(found[2 * j + 1] - expected[2 * j + 1] < 0.01f);
            CHECK(expected[2 * j + 1] - found[2 * j + 1] < 0.01f);
        }
    }
    puts("cuda: ok");
    return 0;
}
