/* One image through the real network, with as little as possible around it: for valgrind, under
 * which the processor is some fifty times slower.
 *
 *     network MODEL.safetensors
 */
#include "check.h"

int main(int argument_len, char **arguments) {
    twinstream_options options;
    twinstream_engine *engine = NULL;
    const twinstream_cpu_options one_thread = {sizeof one_thread, 1};
    twinstream_geometry geometry;
    twinstream_request request;
    const char *label = NULL;
    const float *logits = NULL;
    uint8_t *image;
    CHECK(argument_len == 2);
    CHECK_OK(twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION));
    options.weights_path = arguments[1];
    options.cpu = &one_thread;
    options.slot_len = 1;
    options.batch_len_max = 1;
    options.spin_ns = 0;
    options.stall_timeout_ns = 3600 * SECOND_NS;
    options.precision = "f8";
    CHECK_STATUS(twinstream_engine_create(&options, &engine), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "expected f32, bf16, f16 or i8") != NULL);
    options.precision = "i8";
    CHECK_STATUS(twinstream_engine_create(&options, &engine), TWINSTREAM_ARGUMENT);
    CHECK(strstr(twinstream_last_error(), "twinstream calibrate") != NULL);
    options.precision = "f32";
    CHECK_OK(twinstream_engine_create(&options, &engine));
    geometry.struct_size = sizeof geometry;
    CHECK_OK(twinstream_engine_geometry(engine, &geometry));
    CHECK(geometry.image_bytes == (uint64_t)3 * geometry.height * geometry.width);
    CHECK_OK(twinstream_lease(engine, &request, &image));
    memset(image, 128, geometry.image_bytes);
    CHECK_OK(twinstream_commit(engine, request, NULL));
    CHECK_OK(twinstream_wait(engine, request, TWINSTREAM_FOREVER, &logits));
    /* Finite, and not all the same. */
    for (uint64_t i = 0; i < geometry.result_len; i++) {
        CHECK(logits[i] > -1000 && logits[i] < 1000);
        CHECK_OK(twinstream_engine_label(engine, i, &label));
        CHECK(label[0] != '\0');
    }
    CHECK(logits[0] < logits[1] || logits[0] > logits[1]);
    CHECK_OK(twinstream_release(engine, request));
    CHECK_OK(twinstream_engine_destroy(engine));
    puts("network: ok");
    return 0;
}
