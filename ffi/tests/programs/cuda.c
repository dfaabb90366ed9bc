/* The CUDA backend from C: which device, what it was tuned to, mistakes, and answers of the best
 * classes beside those of the processor.
 *
 *     cuda MODEL.safetensors
 */
#include "check.h"

enum {
    CLASS_LEN = 3
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

static void refuse(const char *weights_path, const char *device, const char *tuning_path,
                   twinstream_status status, const char *named) {
    const twinstream_cuda_options cuda = {sizeof cuda, 0, device, tuning_path};
    twinstream_options options = backend_options(weights_path, TWINSTREAM_BACKEND_CUDA);
    twinstream_engine *engine = NULL;
    options.cuda = &cuda;
    CHECK_STATUS(twinstream_engine_create(&options, &engine), status);
    CHECK(strstr(twinstream_last_error(), named) != NULL);
    CHECK(engine == NULL);
}

/* The best classes of a grey image and their probabilities, one after the other. */
static void classify(const twinstream_options *options, float *classes) {
    twinstream_engine *engine = NULL;
    twinstream_geometry geometry;
    twinstream_request request;
    const float *result = NULL;
    uint8_t *image;
    CHECK_OK(twinstream_engine_create(options, &engine));
    geometry.struct_size = sizeof geometry;
    CHECK_OK(twinstream_engine_geometry(engine, &geometry));
    CHECK(geometry.result_len == 2 * CLASS_LEN);
    CHECK_OK(twinstream_lease(engine, &request, &image));
    memset(image, 128, geometry.image_bytes);
    CHECK_OK(twinstream_commit(engine, request, NULL));
    CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, &result));
    memcpy(classes, result, 2 * CLASS_LEN * sizeof *classes);
    CHECK_OK(twinstream_release(engine, request));
    CHECK_OK(twinstream_engine_destroy(engine));
}

int main(int argument_len, char **arguments) {
    twinstream_options options;
    float expected[2 * CLASS_LEN], found[2 * CLASS_LEN];
    CHECK(argument_len == 2);
    refuse(arguments[1], "99", NULL, TWINSTREAM_ARGUMENT, "99");
    refuse(arguments[1], "the fast one", NULL, TWINSTREAM_ARGUMENT, "the fast one");
    refuse(arguments[1], NULL, __FILE__, TWINSTREAM_CONFIG, "cuda.c");

    options = backend_options(arguments[1], TWINSTREAM_BACKEND_CPU);
    classify(&options, expected);
    options = backend_options(arguments[1], TWINSTREAM_BACKEND_CUDA);
    for (int i = 0; i < 2; i++) {
        /* The first device, and the second by its UUID. */
        const char *device = i == 0 ? NULL : "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f";
        const twinstream_cuda_options cuda = {sizeof cuda, 0, device, NULL};
        options.cuda = &cuda;
        classify(&options, found);
        for (int j = 0; j < CLASS_LEN; j++) {
            CHECK(found[2 * j] == expected[2 * j]);
            CHECK(found[2 * j + 1] - expected[2 * j + 1] < 0.01f);
            CHECK(expected[2 * j + 1] - found[2 * j + 1] < 0.01f);
        }
    }
    puts("cuda: ok");
    return 0;
}
