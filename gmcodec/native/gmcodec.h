/* SPDX-License-Identifier: MIT
 *
 * The native core of gmcodec: all loops over every sample, in exact integers.
 *
 * gm_open returns the table of functions for an instruction set; the functions of every table compute the same
 * numbers.  Functions take pointers and sizes.  All state is in objects that one function makes and another frees, so
 * several threads may call any function at once, unless its comment says otherwise.  Arguments are trusted: the Python
 * binding (gmcodec/native/) checks types, sizes and bounds.  Arrays are C-contiguous unless there is a stride, in
 * elements.  Each part names the numpy code that specifies it.
 */
#ifndef GMCODEC_H
#define GMCODEC_H

#include <stdint.h>

#if defined(_WIN32)
#define GM_EXPORT __declspec(dllexport)
#else
#define GM_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A frozen linear layer, as stored: exact/ops.py.  Layer.check has proved its bounds. */
typedef struct gm_layer_data {
  int32_t rows, columns;                    /* outputs, at most 1024, and inputs */
  const int16_t *weight;                    /* [rows, columns] */
  const int32_t *bias, *multiplier, *shift; /* [rows] */
} gm_layer_data;

typedef struct gm_net gm_net; /* a frozen local net */

/* Tables of context mixing: exact/context_mixing.py. */
typedef struct gm_mixing_tables {
  const int16_t *stretch;        /* [4096] */
  const int32_t *squash;         /* [5633] */
  const int32_t *reciprocal;     /* [256] */
  const int32_t *logistic;       /* [8191] */
  const int32_t *inverse_square; /* [1021] */
} gm_mixing_tables;

/* A net without condition that says what it expects of the last channels of a pixel: models/graphics/net_spec.py.  The
 * net must outlive the model.  Pixels are put on its canvas (models/shared/window.py) as they become known. */
typedef struct gm_graphics_net {
  const gm_net *net;
  int16_t *samples;
  int64_t origin, row_size; /* of the first pixel's first sample; samples from one row to the next */
} gm_graphics_net;

/* An image of the pixel model of graphics: models/graphics/spec.py. */
typedef struct gm_graphics_data {
  int32_t width, height, channels; /* at most 4 channels */
  int32_t depth;                   /* bits of a sample, 1 to 8 */
  int32_t green;                   /* the channel of green, followed by red and blue, which are the last; or -1 */
  uint32_t contexts;               /* a bit for each of the 21 contexts that is used */
  int32_t bilevel;                 /* not 0: templates of bits as well; at most 24 contexts together */
  int32_t guessing;                /* which pixels are guessed: 0, 1 or 2 */
  int32_t bucket_bits, place_bits; /* of the sizes of the two hash tables: 1 to 30, 1 to 32 */
  int64_t stride;                  /* pixels from one row to the next: the width and 32, part of the format */
  uint32_t *pixels;                /* the first pixel; there are 16 more to both sides of a row, and 6 rows above */
  const gm_mixing_tables *tables;
  const gm_graphics_net *net; /* or null */
} gm_graphics_data;

/* Where the decisions of an image are popped from: exact/decisions.py.  The caller sets the first five, all others are
 * 0 at first.  ``damaged``: a block had words left. */
typedef struct gm_decision_reader {
  const uint16_t *words; /* of all blocks */
  const int64_t *sizes;  /* [blocks]: words of each */
  int64_t blocks, block_decisions;
  int64_t block, left, size, count;
  uint32_t state;
  int32_t damaged;
} gm_decision_reader;

/* How samples lie on the grey levels that a net was trained on: exact/logistic.py, Scale. */
typedef struct gm_scale {
  int32_t shift;      /* a grey level is 2**shift steps of samples */
  int32_t extra_bits; /* bits of a sample beyond 8 */
  int32_t max_sample;
  int32_t half_width; /* of a sample, in 1/64 grey level, as the gradient sees it */
} gm_scale;

/* A frozen local net: models/local/spec.py. */
typedef struct gm_net_data {
  int32_t channels;                /* 1 to 3 */
  int32_t mixtures;                /* logistics K of a pixel, at most 32 */
  int32_t blocks;                  /* residual blocks */
  int32_t condition;               /* features of each pixel's condition, 0 for none */
  int32_t limit, output_limit;     /* largest |activation|, below 2**15, and largest |output|, below 2**18 */
  const gm_layer_data *layers;     /* [2 + 2 * blocks]: first, up and down of every block, last */
  const gm_layer_data *conditions; /* [1 + blocks]: added to the stream after first and after every block; or null */
  const gm_layer_data *linear;     /* the linear predictor */
  const int32_t *near;             /* [linear->columns]: indices of the features that the linear predictor reads */
  int32_t runs;
  const int32_t *run;                         /* [runs, 3]: the window row by row: dy, first dx, pixels, at most 34 */
  const int32_t *softmax, *inverse, *sigmoid; /* [1024], [321], [17409]: exact/logistic.py, Tables */
} gm_net_data;

/* How a layer learns: exact/rmsprop.py, models/online/rules.py. */
typedef struct gm_rmsprop_layer {
  const double *delta_scale;     /* [rows]: multiplier * 2**e, turns gradients by results into gradients by sums */
  const int64_t *rate;           /* [rows]: of master weights */
  const int32_t *backward_shift; /* [rows]: bits that weights lose in the backward pass */
  int32_t weight_limit;          /* largest |weight| */
  int32_t bias_input;            /* the bias learns as the weight of an input of this size */
} gm_rmsprop_layer;

/* How a net learns. */
typedef struct gm_rmsprop_net {
  const gm_rmsprop_layer *layers; /* one for each of the net's layers */
  const double *block_unit;       /* [blocks]: turns a block's gradients into the unit of the stream's */
  const int64_t *linear_rate;     /* [channels]: of the linear predictor */
  int32_t averaged;               /* not 0: pixels are coded with running means of the weights */
} gm_rmsprop_net;

/* Where the samples of a tile lie; in its margins all samples are -1, unknown: models/shared/window.py, Canvas. */
typedef struct gm_tile_geometry {
  int32_t height, width, channels, slope; /* pixel (i, j) is coded in step slope * i + j */
  int32_t high_depth;                     /* not 0: samples have more than 8 bits and are int32, else int16 */
  int32_t row_size;                       /* samples from one row to the next */
  int64_t origin;                         /* index of the first pixel's first sample */
  void *samples;                          /* the caller's, who must keep it as long as the tile */
} gm_tile_geometry;

/* How samples become nibbles. */
typedef struct gm_coding {
  gm_scale scale;
  int32_t nibbles;         /* 2 for samples of 8 bits, 2 to 4 for more */
  const int64_t *values;   /* [channels, 256]: weights of 8-bit values, coding/value_weights.py; or null */
  const uint8_t *weighted; /* [channels]: which channels have weights */
} gm_coding;

/* The pixels that a net is fitted to, and the net's outputs for them: models/local/fit.py. */
typedef struct gm_fit_data {
  int64_t n;                  /* pixels, at least 1 */
  int32_t channels, mixtures; /* 1 to 3, 1 to 32 */
  const int32_t *outputs;     /* [n, outputs], each below 2**24 */
  const double *units;        /* [outputs]: the unit of each output, a power of two */
  const int32_t *base;        /* [n, channels]: centres of the means, each below 2**24 */
  const uint8_t *target;      /* [channels, n]: the samples */
  int32_t feature_count, near_count;
  const int16_t *features; /* [n, feature_count] */
  const int32_t *near;     /* [near_count]: indices of the features that the linear predictor reads */
} gm_fit_data;

/* A symbol: the quantiles start to start + freq - 1 of 0 to 2**24 - 1. */
typedef struct gm_interval {
  uint32_t start, freq;
} gm_interval;

typedef struct gm_stack {
  uint64_t state;
  int64_t count; /* of words */
} gm_stack;

typedef struct gm_layer gm_layer;
typedef struct gm_streams gm_streams;
typedef struct gm_tile gm_tile;

/* Kinds of a layer: see layer_run.  Activations: GM_CONCAT_ELU is ELU of x, then ELU of -x. */
enum { GM_HIDDEN = 0, GM_OUTPUT = 1, GM_RESIDUAL = 2, GM_OUTPUT_WIDE = 3, GM_GATE = 4 };
enum { GM_COPY = 0, GM_LEAKY = 1, GM_ELU = 2, GM_CONCAT_ELU = 3 };

/* A map of features of a batch: int16 [depth, columns + 2 * margin, images, features].  It is a ring buffer: row i of
 * the image lies at i % depth.  Cells outside the image are zero. */
typedef struct gm_map {
  int32_t depth, columns, margin, features; /* features: an even number */
  const int16_t *known; /* the caller's cells, which must be kept and which no step writes; null: the library's cells */
} gm_map;

/* An input of a step: all features of the cell that lies ``row`` rows and ``column`` columns away. */
typedef struct gm_tap {
  int32_t map, row, column;
} gm_tap;

/* Run a layer at some cells of a row. */
typedef struct gm_step {
  const gm_layer *layer; /* reads the taps one after the other; the maps of all taps have equally many features */
  int32_t kind, limit;   /* as for layer_run; GM_OUTPUT_WIDE: these are the net's outputs */
  int32_t level;         /* a cell of the result is 2**level pixels a side */
  int32_t scale;         /* resolution of the input maps: 0 that of the result, 1 twice as fine, -1 half as fine */
  int32_t parity;        /* scale -1: only cells with 2 * (row & 1) + (column & 1) == parity are made */
  int32_t taps;          /* 1 to 256 */
  const gm_tap *tap;
  int32_t out;        /* map that the result is written or added to; -1: none */
  int32_t active;     /* map that gets the activation of the result, which may be ``out``; -1: none */
  int32_t activation; /* GM_COPY to GM_CONCAT_ELU */
} gm_step;

/* The streams of a PixelCNN++, as a program: some steps run once for each row, the others for its columns. */
typedef struct gm_streams_data {
  int32_t images, width, channels;
  int32_t maps, steps, upper; /* the first ``upper`` steps see finished rows only; the last step gives the outputs */
  int32_t block_columns;      /* columns that go through all steps of the left stream together */
  const gm_map *map;
  const gm_step *step;
  int32_t planes;         /* number of the map that the upper stream reads: 2 * channels + 1 features */
  int32_t windows;        /* number of the map that the left stream reads: each pixel's window, as of a local net */
  const int16_t *samples; /* the first pixel's first sample, inside margins of -1; the caller must keep it */
  int64_t image_size, row_size; /* samples from one image, or row, to the next */
  const gm_layer_data *linear;  /* the linear predictor and the window, as in gm_net_data */
  const int32_t *near;
  int32_t runs;
  const int32_t *run;
  const int32_t *gate, *elu; /* [4095], [2048]: models/pixelcnnpp/tables.py */
} gm_streams_data;

typedef struct gm_graphics gm_graphics;

typedef struct gm_functions {
  const char *isa; /* the instruction set that these functions were compiled for */

  /* -- nets ------------------------------------------------------------------------------------------------------ */

  /* A net that holds copies of all arrays.  Null when memory is short. */
  gm_net *(*net_new)(const gm_net_data *net);
  void (*net_free)(gm_net *net);

  /* Outputs int32 [n, outputs] and centres of the means int32 [n, channels] of the pixels that begin at
   * samples[offsets[i]], int16.  condition: int16 [n, condition], with a column of zeros if condition is odd; or null,
   * and no layer reads one.  Not 0 when memory is short. */
  int32_t (*net_evaluate)(const gm_net *net, const int16_t *samples, int64_t row_size, const int64_t *offsets,
                          int64_t n, const int16_t *condition, int32_t *outputs, int32_t *base);

  /* The features that the net reads of the same pixels, int16 [n, features], and the centres of the means. */
  void (*net_features)(const gm_net *net, const int16_t *samples, int64_t row_size, const int64_t *offsets, int64_t n,
                       int16_t *features, int32_t *base);

  /* -- tiles: fixed tiles have one net that does not change; online tiles have one or two nets that learn ---------- */

  /* A tile before its first step.  rmsprop: null for a fixed tile, or [count]; no net's window reaches further than the
   * first one's.  workers: threads that share an online tile, 1 to 8.  The nets must outlive the tile and do not
   * change: a tile learns in copies of its own.  Null when memory is short. */
  gm_tile *(*tile_new)(const gm_net *const *nets, const gm_rmsprop_net *rmsprop, int32_t count,
                       const gm_tile_geometry *geometry, const gm_coding *coding, int32_t workers);
  void (*tile_free)(gm_tile *tile);

  /* Fixed tiles: push the steps last - 1 down to first onto the stack, at most one word a nibble, and return their
   * bits.  One thread at a time. */
  double (*tile_push)(gm_tile *tile, int32_t first, int32_t last, gm_stack *stack, uint32_t *words);

  /* Fixed tiles: estimate bits from some pixels.  Each group of ``every`` steps, the last group first, gives the number
   * of its chosen pixels, about one in ``every``, and their bits: [ceil((last - first) / every)]. */
  void (*tile_sample)(gm_tile *tile, int32_t first, int32_t last, int32_t every, int64_t *pixels, double *bits);

  /* Fixed tiles: pop the steps first to last - 1 into the samples.  words: all words of the stack. */
  void (*tile_pop)(gm_tile *tile, int32_t first, int32_t last, gm_stack *stack, const uint32_t *words);

  /* Fixed tiles: evaluate the net in all steps and code nothing, to measure its speed.  The result is a sum of outputs,
   * so that no compiler can leave the work out. */
  int64_t (*tile_evaluate)(gm_tile *tile);

  /* Number of the tile's nibbles in each of the two stacks, int64 [2]: models/online/spec.py. */
  void (*tile_symbols)(const gm_tile *tile, int64_t *symbols);

  /* Online tiles: find the intervals of the worker's share of the steps and return their bits.  intervals[0] and
   * intervals[1] are those of each stack's symbols in coding order.  Every worker must call it with the same steps,
   * each in a thread of its own, since the workers wait for one another. */
  double (*tile_intervals)(gm_tile *tile, int32_t worker, int32_t first, int32_t last, gm_interval *const *intervals);

  /* Online tiles: pop the steps into the samples, from two stacks.  Every worker must call it, as above. */
  void (*tile_pop_online)(gm_tile *tile, int32_t worker, int32_t first, int32_t last, gm_stack *stacks,
                          const uint32_t *const *words);

  /* Push intervals, the last one first, onto an empty stack, at most one word each. */
  void (*push_intervals)(const gm_interval *intervals, int64_t count, gm_stack *stack, uint32_t *words);

  /* -- layers of nets that read maps of features: models/pixelcnnpp/spec.py, models/vae/spec.py ------------------ */

  gm_layer *(*layer_new)(const gm_layer_data *layer);
  void (*layer_free)(gm_layer *layer);

  /* Run a layer on x int16 [n, columns].  layer_sums gives W x, int32 [n, rows]; layer_run rescales, and then
   *   GM_HIDDEN       int16 [n, rows]: leaky ReLU, clamp to +-limit
   *   GM_OUTPUT       int16 [n, rows]: clamp;  GM_OUTPUT_WIDE  int32
   *   GM_RESIDUAL     int16 [n, rows]: add to out, clamp
   *   GM_GATE         int16 [n, rows / 2]: add a * sigmoid(b) to out, clamp; table int32 [4095]
   * x_row, out_row: elements from one row to the next. */
  void (*layer_run)(const gm_layer *layer, int32_t kind, int32_t limit, const int16_t *x, int64_t x_row, int64_t n,
                    const int32_t *table, void *out, int64_t out_row);
  void (*layer_sums)(const gm_layer *layer, const int16_t *x, int64_t x_row, int64_t n, int32_t *out);

  /* layer_run on windows of size x size cells, an odd number, around every stride-th cell of x int16 [images, height,
   * width, features], zero outside: out [images, ceil(height / stride), ceil(width / stride), rows].  No GM_GATE.
   * Not 0 when memory is short. */
  int32_t (*convolve)(const gm_layer *layer, int32_t kind, int32_t limit, const int16_t *x, int64_t images,
                      int32_t height, int32_t width, int32_t features, int32_t size, int32_t stride, void *out);

  /* Activations of n values int16.  elu: table int32 of -elu(-v), which must hold every |v|. */
  void (*leaky)(const int16_t *x, int64_t n, int16_t *out);
  void (*elu)(const int16_t *x, int64_t n, const int32_t *table, int16_t *out);

  /* The layers must outlive the streams.  One thread at a time.  Null when memory is short. */
  gm_streams *(*streams_new)(const gm_streams_data *data);
  void (*streams_free)(gm_streams *streams);

  /* Outputs int32 [last - first, images, outputs] and centres of the means int32 [last - first, images, channels] of
   * columns of a row.  Calls must come in raster order, each column once, after all samples before it are known. */
  void (*streams_run)(gm_streams *streams, int32_t row, int32_t first, int32_t last, int32_t *outputs, int32_t *base);

  /* -- rows of frequencies, for coding/stack.py: exact/logistic.py, exact/gaussian.py ----------------------------- */

  /* Mixture weights int64 [n, k] before any sample is known, from outputs int32 [n, row]. */
  void (*softmax)(const int32_t *outputs, int64_t row, int64_t n, int32_t k, const int32_t *table, int64_t *weights);

  /* Means and inverse scales int64 [n, k] of a channel, given the samples int32 [n, channels] of earlier channels. */
  void (*channel_logistics)(const int32_t *outputs, int64_t row, const int32_t *base, const int32_t *samples, int64_t n,
                            int32_t channel, int32_t channels, int32_t k, const int32_t *inverse_table, int64_t *mean,
                            int64_t *inverse);

  /* Frequencies int32 [n, 16] of high nibbles (high null), or of low ones given high int32 [n]. */
  void (*nibble_rows)(const int64_t *weights, const int64_t *mean, const int64_t *inverse, int64_t n, int32_t k,
                      const int32_t *sigmoid, const int32_t *high, int32_t *rows);

  /* Update weights int64 [n, k] in place by Bayes' rule, given the channel's samples int32 [n]. */
  void (*observe)(const int32_t *samples, int64_t n, int32_t k, const int64_t *mean, const int64_t *inverse,
                  const int32_t *sigmoid, int64_t *weights);

  /* Multiply frequencies int32 [n, 16] of low nibbles by the weights int64 [256] of their values, in place.  A row in
   * which all weights are zero does not change. */
  void (*reweight)(int32_t *rows, const int32_t *high, int64_t n, const int64_t *values);

  /* Frequencies int32 [n, 16] of a nibble of latents: gaussian.rows.  first, mean, log_scale int64 [n]. */
  void (*gaussian_rows)(const int64_t *first, int64_t step, const int64_t *mean, const int64_t *log_scale, int64_t n,
                        const int32_t *edges, int64_t edges_count, const int32_t *normal, int64_t normal_count,
                        const int32_t *inverse, int32_t *rows);

  /* -- filters of conventional methods: coding/filters.py --------------------------------------------------------- */

  /* Residuals -> bytes, in place: rows uint8 [height, width]; kinds uint8 [height]: PNG's number of each row's filter;
   * step: bytes from a sample to its left neighbour. */
  void (*undo_png)(uint8_t *rows, int64_t row_size, const uint8_t *kinds, int64_t kind_size, int64_t height,
                   int64_t width, int64_t step);

  /* Residuals -> samples, in place: int32 [channels, height, width], modulo mask + 1. */
  void (*undo_med)(int32_t *planes, int64_t channels, int64_t height, int64_t width, int32_t mask);

  /* -- fitting a net to an image: models/local/fit_spec.py.  In floating point, yet the same everywhere: fit.hpp --- */

  /* The likeliest changes of outputs and of weights of the linear predictor, as integers in units of quanta > 0, and
   * their gain in nats.  All arrays are [parameters = outputs + channels * near_count].  Not 0 when memory is short. */
  int32_t (*fit_changes)(const gm_fit_data *data, const double *quanta, double *changes, double *gain);

  /* The log-likelihood in nats at changes theta [parameters], each within +-2**20; its gradient; and its empirical
   * Fisher matrix [parameters, parameters].  Not 0 when memory is short. */
  int32_t (*fit_likelihood)(const gm_fit_data *data, const double *theta, double *value, double *gradient,
                            double *fisher);

  /* -- graphics: context mixing of binary decisions: models/graphics/spec.py, exact/decisions.py --------------------
   */

  /* The tables must outlive the object.  One thread at a time.  Null when memory is short. */
  gm_graphics *(*graphics_new)(const gm_graphics_data *data);
  void (*graphics_free)(gm_graphics *graphics);

  /* Find the decisions of pixels in raster order, from ``first`` on until ``last`` is reached or passed; returns the
   * next pixel.  A decision is its probability of one in 2**-16, plus 2**16 if it is one.  ``decisions`` must have room
   * for 8 * channels + 32 of each pixel.  Calls must come in order. */
  int64_t (*graphics_encode)(gm_graphics *graphics, int64_t first, int64_t last, uint32_t *decisions, int64_t *count);

  /* Inverse: write the pixels. */
  int64_t (*graphics_decode)(gm_graphics *graphics, int64_t first, int64_t last, gm_decision_reader *reader);

  /* Push decisions, the last one first, onto an empty stack, at most one word each; no probability is 0. */
  void (*push_decisions)(const uint32_t *decisions, int64_t count, uint32_t *state, uint16_t *words,
                         int64_t *word_count);
} gm_functions;

/* The functions for an instruction set by name; for an empty name, for the best one of this processor.  Null if the
 * library or this processor does not have it. */
GM_EXPORT const gm_functions *gm_open(const char *isa);

/* Names of the instruction sets that both this library and this processor have, the best first, with commas between. */
GM_EXPORT const char *gm_isas(void);

#ifdef __cplusplus
}
#endif
#endif
