/* Classifies images: prints the five most probable classes of each.
 *
 *     classify MODEL.safetensors [IMAGE.ppm ...]
 *
 * Images are binary PPM files (P6, 8 bits) of exactly the network's size; without any, a generated
 * one shows the way. All images are handed over as one, so that the engine may compute them
 * together. */
#include <twinstream.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    TOP_LEN = 5
};

/* Ends the program unless the call went well. */
static void check(const char *what, twinstream_status status) {
    if (status == TWINSTREAM_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, twinstream_status_name(status), twinstream_last_error());
    exit(1);
}

/* Reads an image right into its place in the engine's memory. */
static void read_ppm(const char *path, const twinstream_geometry *geometry, uint8_t *image) {
    FILE *file = fopen(path, "rb");
    unsigned width, height, max;
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    if (fscanf(file, "P6 %u %u %u", &width, &height, &max) != 3 || max != 255 ||
        width != geometry->width || height != geometry->height || fgetc(file) == EOF) {
        fprintf(stderr, "%s: expected a binary PPM of %u x %u pixels with values to 255\n", path,
                (unsigned)geometry->width, (unsigned)geometry->height);
        exit(1);
    }
    if (fread(image, 1, geometry->image_bytes, file) != geometry->image_bytes) {
        fprintf(stderr, "%s: too short\n", path);
        exit(1);
    }
    fclose(file);
}

/* A blue sky over green ground. */
static void generate(const twinstream_geometry *geometry, uint8_t *image) {
    uint32_t x, y;
    for (y = 0; y < geometry->height; y++) {
        for (x = 0; x < geometry->width; x++) {
            uint8_t *pixel = image + 3 * ((uint64_t)y * geometry->width + x);
            const int is_sky = y < geometry->height / 2;
            pixel[0] = is_sky ? 110 : 60;
            pixel[1] = is_sky ? 160 : 130;
            pixel[2] = is_sky ? 230 : 50;
        }
    }
}

/* Prints the classes of a result: of each its index and its probability. */
static void print_classes(twinstream_engine *engine, const float *result, uint64_t len) {
    uint64_t i;
    for (i = 0; i + 1 < len; i += 2) {
        const char *label;
        check("label", twinstream_engine_label(engine, (uint64_t)result[i], &label));
        printf("  %6.2f %%  %s\n", 100 * (double)result[i + 1], label);
    }
}

int main(int argument_len, char **arguments) {
    const int file_len = argument_len - 2, image_len = file_len > 0 ? file_len : 1;
    twinstream_options options;
    twinstream_engine *engine;
    twinstream_geometry geometry;
    twinstream_request request;
    twinstream_status *statuses;
    const float **results;
    uint8_t **images;
    int i;
    if (argument_len < 2) {
        fprintf(stderr, "usage: %s MODEL.safetensors [IMAGE.ppm ...]\n", arguments[0]);
        return 2;
    }
    check("options", twinstream_options_init(&options, sizeof options, TWINSTREAM_ABI_VERSION));
    options.weights_path = arguments[1];
    options.top_k = TOP_LEN;
    check("engine", twinstream_engine_create(&options, &engine));
    geometry.struct_size = sizeof geometry;
    check("geometry", twinstream_engine_geometry(engine, &geometry));

    images = (uint8_t **)calloc((size_t)image_len, sizeof *images);
    statuses = (twinstream_status *)calloc((size_t)image_len, sizeof *statuses);
    results = (const float **)calloc((size_t)image_len, sizeof *results);
    if (images == NULL || statuses == NULL || results == NULL) return 1;
    check("lease", twinstream_lease_many(engine, (size_t)image_len, 0, &request, images));
    for (i = 0; i < image_len; i++) {
        if (file_len > 0) {
            read_ppm(arguments[2 + i], &geometry, images[i]);
        } else {
            generate(&geometry, images[i]);
        }
    }
    check("commit", twinstream_commit(engine, request, NULL));
    /* Whether each image has a result; statuses tell which has none. */
    twinstream_wait(engine, request, TWINSTREAM_FOREVER, NULL);
    check("results", twinstream_results(engine, request, (size_t)image_len, statuses, results));
    for (i = 0; i < image_len; i++) {
        printf("%s\n", file_len > 0 ? arguments[2 + i] : "a generated image");
        if (statuses[i] == TWINSTREAM_OK) {
            print_classes(engine, results[i], geometry.result_len);
        } else {
            printf("  %s\n", twinstream_status_name(statuses[i]));
        }
    }
    check("release", twinstream_release(engine, request));
    free(images);
    free(statuses);
    free(results);
    check("destroy", twinstream_engine_destroy(engine));
    return 0;
}
