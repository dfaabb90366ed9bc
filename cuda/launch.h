/* What the host hands to the kernels: one struct of plain old data a kernel, and the sizes of the
 * launches. Kernels, emulated device and Rust (bindgen) all read this file; beside it there is only
 * prove.h, for kernels that no batch needs.
 *
 * Every address is that of device memory, aligned to 16 bytes unless said otherwise; 0 stands for
 * "none" where that is allowed. "f16" is IEEE binary16. Kernels with "i8" in their names compute
 * in integers: activations are u8, weights s8, sums s32, and what turns a sum into a value is f32,
 * where fma(a, b, c) and each other operation are rounded once, to nearest even; to_u8(x) is the
 * integer from 0 to 255 that is nearest to x, of two the even one. Dimensions in brackets go from
 * the slowest to the fastest. A grid covers the largest batch that may come, so that one CUDA graph
 * serves many lengths: the length itself is read from twinstream_batch on the device, and what lies
 * beyond it is neither read nor written, unless said otherwise. This file knows nothing of layers,
 * streams or tile choice.
 */
#ifndef TWINSTREAM_LAUNCH_H
#define TWINSTREAM_LAUNCH_H

#include <stdint.h>

#if defined(__cplusplus)
#define TWINSTREAM_SIZE_IS(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define TWINSTREAM_SIZE_IS(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif

enum {
    /* Images of a batch at most. */
    TWINSTREAM_BATCH_LEN_MAX = 256,
    /* Buffers that results alternate between. */
    TWINSTREAM_RESULT_LEN = 4,
    /* Channels of every activation and of the stem's output are multiples of this. */
    TWINSTREAM_CHANNEL_STEP = 64
};

/* Which images make up the batch; written before each batch. Aligned to 4 bytes. */
typedef struct {
    /* Images in the batch, 0 to TWINSTREAM_BATCH_LEN_MAX. */
    uint32_t len;
    /* Result buffer that logits and best classes go to, below TWINSTREAM_RESULT_LEN. */
    uint32_t result;
    /* slots[n]: where image n of the batch lies in the input ring, in images. */
    uint32_t slots[TWINSTREAM_BATCH_LEN_MAX];
} twinstream_batch;
TWINSTREAM_SIZE_IS(twinstream_batch, 1032);

/* Kernel `describe`: descriptions from the host to the device: of a batch, and behind it of chunks
 * that it is computed in, each as if it were a batch. Grid: (descriptions, 1, 1). */
typedef struct {
    /* twinstream_batch [descriptions] in page-locked memory of the host, aligned to 4 bytes; words
     * of slots beyond the batch are copied too and mean nothing. */
    uint64_t source;
    /* twinstream_batch [descriptions]. */
    uint64_t batch;
} twinstream_describe_params;
TWINSTREAM_SIZE_IS(twinstream_describe_params, 16);

/* Kernel `stem`: u8 pixels to the pooled output of the first layer.
 * Normalisation (u8 * scale + shift in f32, rounded to f16, zero padding after it), convolution 7x7
 * at stride 2 and padding 3, bias, ReLU, rounding to f16, max pool 3x3 at stride 2 and padding 1.
 * Kernel `stem_i8`: the same of integers, from the pixels as they are. Taps in the padding add
 * nothing; each pixel of the convolution becomes to_u8(fma(sum, multiplier, bias)), then the pool.
 * Grid: (ceil(pooled_width / STEM_POOLED_WIDTH) * ceil(pooled_height / STEM_POOLED_HEIGHT), images
 * of the bucket, 1). */
typedef struct {
    /* u8 [slot][height][width][3], any alignment; slot i begins at i * image_bytes. */
    uint64_t images;
    /* twinstream_batch. */
    uint64_t batch;
    /* f16, or of integers s8 [64 output channels][7 rows][8 columns][4 input channels]; column 7
     * and channel 3 are zero: a kernel row is then 32 values, two steps of the matrix instruction
     * on f16 and one of that on integers. */
    uint64_t weights;
    /* f32 [64].
     * i8: f32 [STEM_I8_BORDERS][STEM_I8_BORDERS][64], then [64] multipliers. The bias depends on
     * the taps that see the image, which by rows and by columns alike differ at the first two
     * pixels of the convolution (0 and 1), at its last two (3 and 4), and between them (2). Where a
     * side is so short that a pixel is several of these, it is the first of 0, 1, 3 and 4. */
    uint64_t bias;
    /* f16, or of integers u8 [image][pooled_height][pooled_width][64]. */
    uint64_t output;
    /* Distance between images of the ring. */
    uint64_t image_bytes;
    /* Normalisation of the colour channels: 1 / (255 * std) and -mean / std. Integers hold it in
     * their multipliers and biases. */
    float scale[3];
    float shift[3];
    /* Pixels of an input image. */
    uint32_t height;
    uint32_t width;
    /* Pixels after the convolution: (height - 1) / 2 + 1, the same for width. */
    uint32_t conv_height;
    uint32_t conv_width;
    /* Pixels after the pool: (conv_height - 1) / 2 + 1, the same for width. */
    uint32_t pooled_height;
    uint32_t pooled_width;
} twinstream_stem_params;
TWINSTREAM_SIZE_IS(twinstream_stem_params, 96);

/* Kernels `stem_wgmma` and `stem_i8_wgmma`: what `stem` and `stem_i8` compute, of images whose
 * convolution is at most STEM_WGMMA_WIDTH pixels wide, for compute capability 9.0 alone.
 * Grid: (any number from 1, 1, 1): the warpgroups that multiply, STEM_WGMMA_GROUPS a block, take
 * the strips of all images in turns, so more blocks than strips, or than are at work at a time, are
 * of no use. */
typedef struct {
    /* As there, but for the weights: f16, of integers the integers as f16, [7 rows][2 halves of a
     * row][4 warps][32 lanes][8]: with g = lane / 4 and t = lane % 4, a lane has of the half's 16
     * values those at 2 t and 2 t + 1 of output channels 16 warp + 2 g and of the next, then those
     * at 2 t + 8 and 2 t + 9 of the two. */
    twinstream_stem_params stem;
    /* Pooled rows of a strip, which a warpgroup computes at a time; the last one of an image may
     * have fewer. */
    uint32_t strip_height;
    /* ceil(pooled_height / strip_height). */
    uint32_t strips;
} twinstream_stem_wgmma_params;
TWINSTREAM_SIZE_IS(twinstream_stem_wgmma_params, 104);

/* Kernels `conv_*`, one a TWINSTREAM_CONV_TILE of tiles.inc: convolution with bias, and as wanted
 * with residual addition, the block's projection shortcut and ReLU, in this order:
 *     output = relu(round_to_f16(conv(input) + conv1x1(shortcut) + bias + residual))
 * with f16 products summed in f32. `conv_i8_*` do the same with u8 in the place of f16, always with
 * ReLU, in this order:
 *     sum = conv(input) + round(f32(conv1x1(shortcut)) * added)    (s32)
 *     output = to_u8(fma(residual, added, fma(sum, multiplier, bias)))
 * where round is to the nearest integer, of two the even one. The kernels differ only in the tile
 * of M output pixels by N output channels that a block computes. K is the length of one output's
 * sum: tap_rows * tap_columns * channels + shortcut_channels; of integers each of the two terms is
 * rounded up to a multiple of 128, by zeros in the weights. Grid: (ceil(pixels of the bucket / M),
 * output_channels / N, split_k), where pixels are images * output_height * output_width. */
typedef struct {
    /* f16 [image][input_height][input_width][channels]. */
    uint64_t input;
    /* f16 [output_channels / 64][K / 64][64 output channels][64 of K]: what a block reads in one
     * step lies together. K runs over blocks of 64 input channels, in each over the taps in use,
     * row by row, in each over the 64 channels; then over the shortcut's channels.
     * i8: s8 [output_channels / 64][K / 128][64 output channels][128 of K], the shortcut's
     * first. */
    uint64_t weights;
    /* f32 [output_channels]; with a shortcut, the sum of both biases.
     * i8: f32 [3][output_channels]: bias, multiplier, and `added`: with a shortcut its sums'
     * multiplier, with a residual that of its values, else nothing. */
    uint64_t bias;
    /* f16, of the output's shape; may be the output itself. 0: none. */
    uint64_t residual;
    /* Input of the projection shortcut, f16 [image][shortcut_height][shortcut_width]
     * [shortcut_channels]. 0: none; then shortcut_channels is 0. */
    uint64_t shortcut;
    /* f16 [image][output_height][output_width][output_channels]. */
    uint64_t output;
    /* twinstream_batch. */
    uint64_t batch;
    /* f32 or s32 [grid.x * grid.y][split_k][M * N]: workspace for split_k above 1, else 0. */
    uint64_t partials;
    /* u32 [grid.x * grid.y], all zero before the launch and again after it; 0 where partials is. */
    uint64_t semaphores;
    uint32_t input_height;
    uint32_t input_width;
    /* Input channels, a multiple of 64. */
    uint32_t channels;
    uint32_t output_height;
    uint32_t output_width;
    /* A multiple of 64. */
    uint32_t output_channels;
    /* Input pixels between output pixels, on both axes. */
    uint32_t stride;
    /* Zero pixels around the input. */
    uint32_t padding;
    /* The taps in use: rows [tap_row_first, tap_row_first + tap_rows) of the kernel, and columns
     * alike; at most 32 taps. Taps that see only padding, whatever the output pixel, are left out
     * here and in the weights, which changes no result. */
    uint32_t tap_row_first;
    uint32_t tap_rows;
    uint32_t tap_column_first;
    uint32_t tap_columns;
    uint32_t shortcut_height;
    uint32_t shortcut_width;
    /* A multiple of 64, or 0. */
    uint32_t shortcut_channels;
    /* Pixels of the shortcut's input between output pixels; it has no padding. */
    uint32_t shortcut_stride;
    /* 1: negative outputs become 0. */
    uint32_t relu;
    /* Blocks that share a tile, split-K: each sums one slice, and the last to finish adds them in
     * order. 1 to K / 64; of integers 1 to K / 128, and 1 with a shortcut. */
    uint32_t split_k;
} twinstream_conv_params;
TWINSTREAM_SIZE_IS(twinstream_conv_params, 144);

/* CUtensorMap, as the driver encodes it: no interleaving, zeros outside, L2 promotion of 256 bytes,
 * elements of f16, or of integers UINT8. Bit 21 of word 1 is 0 in a map that spans less than 128
 * KiB, which drivers up to 13.1 do not see to. */
typedef struct {
#if defined(__cplusplus)
    alignas(64) uint64_t words[16];
#else
    _Alignas(64) uint64_t words[16];
#endif
} twinstream_tensor_map;
TWINSTREAM_SIZE_IS(twinstream_tensor_map, 128);

/* Kernels `conv_wgmma_*` and `conv_i8_wgmma_*`, one a TWINSTREAM_CONV_WGMMA_TILE of tiles.inc: what
 * `conv_*` and `conv_i8_*` compute, without split-K, for compute capability 9.0 alone. K runs in
 * steps of one tap and STEP channels, 64 of f16 and 128 of integers: over blocks of STEP channels,
 * in each over the taps in use, row by row; the shortcut's blocks follow, of integers they come
 * first. Where channels are no multiple of STEP, the last block's rest is zeros in the weights.
 * Grid: (any number from 1, 1, 1), clusters of one block: blocks take the ceil(pixels of the batch
 * / M) * (output_channels / N) tiles in turns, so more blocks than tiles, or than are at work at a
 * time, are of no use. output_channels is a multiple of N. The struct is aligned to 64 bytes.
 *
 * Kernels of TWINSTREAM_CONV_PAIRS_TILE: the same by clusters of two blocks along x, which take two
 * neighbouring tiles of the same pixels. The grid is even, output_channels a multiple of 2 * N, and
 * a copy of the input's or the shortcut's map takes M / 2 pixels.
 *
 * Kernels of TWINSTREAM_CONV_SPLITS_TILE: the same by clusters of 1, 2, 4 or 8 blocks along x,
 * which share the sums of one tile. Grid: (ceil(pixels of the bucket / M) * (output_channels / N) *
 * blocks of a cluster, 1, 1). There are at least as many steps as blocks of a cluster, which is one
 * block where integers have a shortcut. Boxes are of 64 channels by 8 pixels.
 *
 * Of images from the batch's length on, up to M - 1 pixels behind its last one are computed from
 * whatever is in memory and written, but none behind the bucket's: output and residual must be
 * there for the whole bucket, and so must input and shortcut. No pixel of the batch depends on
 * them. */
typedef struct {
    /* im2col, [image][input_height][input_width][channels], images of the bucket, with the 128-byte
     * swizzle: a copy takes M pixels of STEP channels, also where a tensor has fewer. Dimensions
     * from the innermost: channels, width, height, images; element strides 1, stride, stride, 1;
     * corners, width first: lower -padding; upper (output_width - 1) * stride - padding -
     * (input_width - 1), the same for the height. */
    twinstream_tensor_map input;
    /* The same of the projection shortcut's input, with shortcut_stride for stride and no padding.
     * Not looked at where shortcut_channels is 0. */
    twinstream_tensor_map shortcut;
    /* Tiled, [image * output_height * output_width][output_channels], images of the bucket: boxes
     * of 64 channels by 64 pixels, with the 128-byte swizzle, of integers with that of 64 bytes.
     * May be of the output itself. Not looked at where has_residual is 0. */
    twinstream_tensor_map residual;
    /* As the residual's. */
    twinstream_tensor_map output;
    /* f16 [output_channels / 64][steps][64 rows][64 of K], of integers s8 [output_channels / 64]
     * [steps][64 rows][128 of K]: the order of K is said above, of steps there are ceil(channels /
     * STEP) * tap_rows * tap_columns + ceil(shortcut_channels / STEP). The eight 16-byte chunks of
     * a row have changed places: chunk c of row r lies at c ^ (r % 8). Row r is the r-th of the 64
     * output channels; of integers, rows 16 w + g and 16 w + 8 + g are channels 16 w + 2 g and the
     * next, g from 0 to 7. */
    uint64_t weights;
    /* As in twinstream_conv_params, channels in their own order. */
    uint64_t bias;
    /* twinstream_batch. */
    uint64_t batch;
    /* Of these, all as in twinstream_conv_params. */
    uint32_t channels;
    uint32_t output_height;
    uint32_t output_width;
    uint32_t output_channels;
    uint32_t stride;
    uint32_t padding;
    uint32_t tap_row_first;
    uint32_t tap_rows;
    uint32_t tap_column_first;
    uint32_t tap_columns;
    uint32_t shortcut_channels;
    uint32_t shortcut_stride;
    uint32_t relu;
    /* 1: the residual's values are added. */
    uint32_t has_residual;
} twinstream_conv_wgmma_params;
TWINSTREAM_SIZE_IS(twinstream_conv_wgmma_params, 640);

/* Kernel `average_pool`: mean over all pixels, summed in f32.
 * Kernel `average_pool_i8`: to_u8(sum over all pixels * multiplier).
 * Grid: (channels / 64, images of the bucket, 1). */
typedef struct {
    /* f16, or of integers u8 [image][pixels][channels]. */
    uint64_t input;
    /* Of integers, f32 aligned to 4 bytes; else nothing is read. */
    uint64_t multiplier;
    /* f16, or of integers u8 [image][channels]. */
    uint64_t output;
    /* twinstream_batch. */
    uint64_t batch;
    /* Pixels of an image; of integers, fewer than 2^24. */
    uint32_t pixels;
    /* A multiple of 64. */
    uint32_t channels;
} twinstream_average_pool_params;
TWINSTREAM_SIZE_IS(twinstream_average_pool_params, 40);

/* Kernel `fully_connected`: logits = input * weights^T + bias, f16 products summed in f32.
 * Kernel `fully_connected_i8`: logits = fma(input * weights^T, multiplier, bias), with u8 in the
 * place of the input's f16, s8 in that of the weights', and f32 [2][class]: bias, multiplier.
 * Grid: (ceil(classes / FULLY_CONNECTED_CLASSES), ceil(images of the bucket /
 * FULLY_CONNECTED_IMAGES), 1). */
typedef struct {
    /* f16 [image][channels]. */
    uint64_t input;
    /* f16 [class][channels]. */
    uint64_t weights;
    /* f32 [class]. */
    uint64_t bias;
    /* f32 [image][class] for each result buffer; buffer i begins at i * result_bytes. Aligned to 4
     * bytes. */
    uint64_t logits;
    /* twinstream_batch. */
    uint64_t batch;
    /* Distance between result buffers, a multiple of 4. */
    uint64_t result_bytes;
    /* A multiple of 64. */
    uint32_t channels;
    uint32_t classes;
} twinstream_fully_connected_params;
TWINSTREAM_SIZE_IS(twinstream_fully_connected_params, 56);

/* A class, whose index an f32 holds as it is, and its share of the softmax: results are f32. */
typedef struct {
    float index;
    float probability;
} twinstream_class;
TWINSTREAM_SIZE_IS(twinstream_class, 8);

/* Kernel `top_k`: the k classes with the largest logits, best first, the lower index first among
 * equals; probabilities are shares of the softmax over all classes, in f32.
 * Grid: (images of the bucket, 1, 1). */
typedef struct {
    /* f32 [image][class] for each result buffer; buffer i begins at i * logits_result_bytes.
     * Aligned to 4 bytes. */
    uint64_t logits;
    /* twinstream_class [image][k] for each result buffer; buffer i begins at i * best_result_bytes.
     * Aligned to 8 bytes. */
    uint64_t best;
    /* twinstream_batch. */
    uint64_t batch;
    /* Distance between result buffers, a multiple of 4. */
    uint64_t logits_result_bytes;
    /* Distance between result buffers, a multiple of 8. */
    uint64_t best_result_bytes;
    /* At most 2^24. */
    uint32_t classes;
    /* 1 to classes. */
    uint32_t k;
} twinstream_top_k_params;
TWINSTREAM_SIZE_IS(twinstream_top_k_params, 48);

/* Launch sizes: the tile, the threads of a block (all along x) and the dynamic shared memory, which
 * above 48 KiB the host must allow for (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES). Those of
 * the convolutions are in tiles.inc. */
enum {
    TWINSTREAM_DESCRIBE_THREADS = 288,
    TWINSTREAM_DESCRIBE_SHARED_BYTES = 0,

    TWINSTREAM_STEM_POOLED_HEIGHT = 8,
    TWINSTREAM_STEM_POOLED_WIDTH = 7,
    TWINSTREAM_STEM_THREADS = 256,
    TWINSTREAM_STEM_SHARED_BYTES = 40928,

    TWINSTREAM_STEM_I8_BORDERS = 5,
    TWINSTREAM_STEM_I8_THREADS = 256,
    TWINSTREAM_STEM_I8_SHARED_BYTES = 20976,

    TWINSTREAM_STEM_WGMMA_WIDTH = 112,
    TWINSTREAM_STEM_WGMMA_GROUPS = 2,
    TWINSTREAM_STEM_WGMMA_THREADS = 384,
    TWINSTREAM_STEM_WGMMA_SHARED_BYTES = 59136,

    TWINSTREAM_STEM_I8_WGMMA_GROUPS = 2,
    TWINSTREAM_STEM_I8_WGMMA_THREADS = 384,
    TWINSTREAM_STEM_I8_WGMMA_SHARED_BYTES = 59136,

    TWINSTREAM_AVERAGE_POOL_THREADS = 256,
    TWINSTREAM_AVERAGE_POOL_SHARED_BYTES = 2048,

    TWINSTREAM_AVERAGE_POOL_I8_THREADS = 256,
    TWINSTREAM_AVERAGE_POOL_I8_SHARED_BYTES = 4096,

    TWINSTREAM_FULLY_CONNECTED_CLASSES = 16,
    TWINSTREAM_FULLY_CONNECTED_IMAGES = 32,
    TWINSTREAM_FULLY_CONNECTED_THREADS = 256,
    TWINSTREAM_FULLY_CONNECTED_SHARED_BYTES = 16384,

    TWINSTREAM_FULLY_CONNECTED_I8_THREADS = 256,
    TWINSTREAM_FULLY_CONNECTED_I8_SHARED_BYTES = 16384,

    TWINSTREAM_TOP_K_THREADS = 256,
    TWINSTREAM_TOP_K_SHARED_BYTES = 64
};

#endif
