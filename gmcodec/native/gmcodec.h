/* SPDX-License-Identifier: MIT
 *
 * The native core of gmcodec: all loops that touch every sample, in exact integers.
 *
 * gm_open gives a table of functions for an instruction set; every table gives the same numbers.  A function gets
 * pointers and sizes, keeps no state but in the objects that it made, and may be called by several threads at once
 * unless it says otherwise.  It trusts what it is passed: gmcodec/native/__init__.py checks types, sizes and bounds.
 * Arrays are C-contiguous unless a stride, in elements, is given.  The numpy specification is named beside each part.
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

/* A frozen linear layer, as stored: exact/ops.py.  Who makes one has proved its bounds (Layer.check). */
typedef struct gm_layer_data {
  int32_t rows, columns;                    /* outputs and inputs, each at most 1024 rows */
  const int16_t *weight;                    /* [rows, columns] */
  const int32_t *bias, *multiplier, *shift; /* [rows] */
} gm_layer_data;

/* How samples lie on the grey levels that a net was trained on: exact/logistic.py, Scale. */
typedef struct gm_scale {
  int32_t shift; /* a grey level is 2**shift steps of samples */
  int32_t more;  /* bits of a sample beyond 8 */
  int32_t top;   /* no sample is larger */
  int32_t half;  /* half the width of a sample as learning sees it, in 1/64 grey level */
} gm_scale;

/* A frozen local net: models/local/spec.py. */
typedef struct gm_net_data {
  int32_t channels;                /* 1 to 3 */
  int32_t mixtures;                /* logistics K of a pixel, at most 32 */
  int32_t blocks;                  /* residual blocks */
  int32_t condition;               /* features of a condition of every pixel, 0 for none */
  int32_t limit, output_limit;     /* what no activation, no output exceeds: below 2**15, 2**18 */
  const gm_layer_data *layers;     /* [2 + 2 * blocks]: first, up and down of every block, last */
  const gm_layer_data *conditions; /* [1 + blocks], added behind first and every block; null without a condition */
  const gm_layer_data *linear;     /* the linear predictor */
  const int32_t *near;             /* [linear->columns]: the features that it reads */
  int32_t runs;
  const int32_t *run; /* [runs, 3]: the window row by row, dy, first dx, pixels; at most 34 pixels each */
  const int32_t *softmax, *inverse, *sigmoid; /* [1024], [321], [17409]: exact/logistic.py, Tables */
} gm_net_data;

/* How a layer learns: models/online/rules.py, Rules. */
typedef struct gm_rules_data {
  const double *scale; /* [rows]: multiplier * 2**e, from gradients of results to those of sums */
  const int64_t *rate; /* [rows]: of master weights */
  const int32_t *cut;  /* [rows]: bits that weights lose on the way back */
  int32_t limit;       /* of a weight */
  int32_t unit;        /* what the bias' input would be */
} gm_rules_data;

typedef struct gm_learning_data {
  const gm_rules_data *layers; /* as those of the net */
  const double *block_unit;    /* [blocks]: what a block's gradients are worth in the stream's unit */
  const int64_t *linear_rate;  /* [channels] */
  int32_t averaged;            /* code with running means of the weights */
} gm_learning_data;

/* Samples of a tile with margins in which nothing is known (-1): models/shared/window.py, Canvas. */
typedef struct gm_place {
  int32_t height, width, channels, slope; /* pixel (i, j) is coded in step slope * i + j */
  int32_t high_depth;                     /* more than 8 bits: samples are int32, else int16 */
  int32_t row_size;                       /* samples from one row to the next */
  int64_t origin;                         /* the first pixel's first sample */
  void *samples;                          /* flat; the caller's, who keeps it while the tile is there */
} gm_place;

/* How samples become nibbles. */
typedef struct gm_coding {
  gm_scale scale;
  int32_t nibbles;         /* 2 of 8 bits, 2 to 4 of more */
  const int64_t *values;   /* [channels, 256]: weights of values, of 8 bits; null for none: coding/value_weights.py */
  const uint8_t *weighted; /* [channels]: which channels have weights */
} gm_coding;

/* Pixels that a net is fitted to, and what it says of them: models/local/fit.py. */
typedef struct gm_fit_data {
  int64_t n;                  /* at least 1 */
  int32_t channels, mixtures; /* 1 to 3, 1 to 32 */
  const int32_t *outputs;     /* [n, outputs], each below 2**24 */
  const double *units;        /* [outputs]: what one of an output is worth, powers of two */
  const int32_t *base;        /* [n, channels]: centres of the means, each below 2**24 */
  const uint8_t *target;      /* [channels, n] */
  int32_t feature_count, near_count;
  const int16_t *features; /* [n, feature_count] */
  const int32_t *near;     /* [near_count]: the features that the linear predictor reads */
} gm_fit_data;

typedef struct gm_range {
  uint32_t start, freq; /* a symbol's quantiles, of 2**24 */
} gm_range;

typedef struct gm_stack {
  uint64_t state;
  int64_t count; /* of words */
} gm_stack;

typedef struct gm_layer gm_layer;
typedef struct gm_streams gm_streams;
typedef struct gm_net gm_net;
typedef struct gm_tile gm_tile;

enum { GM_HIDDEN = 0, GM_OUTPUT = 1, GM_RESIDUAL = 2, GM_OUTPUT_WIDE = 3, GM_GATE = 4 };
enum { GM_COPY = 0, GM_LEAKY = 1, GM_ELU = 2, GM_CONCAT_ELU = 3 };

/* A map of features of a batch: int16 [depth, columns + 2 * margin, images, features]; row i lies at i % depth, and
 * what is outside the image is zero. */
typedef struct gm_map {
  int32_t depth, columns, margin, features; /* features: an even number */
  const int16_t *known; /* the caller's, who keeps it, and no step writes to it; null: the library's, zero at first */
} gm_map;

/* An input of a step: a cell so many rows and columns away, all its features. */
typedef struct gm_tap {
  int32_t map, row, column;
} gm_tap;

/* A layer at some cells of a row, and what follows. */
typedef struct gm_step {
  const gm_layer *layer; /* its columns: tap by tap the features of the taps' maps, all of which have as many */
  int32_t kind, limit;   /* as of layer_run; GM_OUTPUT_WIDE: the outputs */
  int32_t level;         /* a cell of what it makes is 2**level pixels a side */
  int32_t scale;         /* how the maps that it sees are: 0 as fine, 1 twice as fine, -1 half as fine */
  int32_t parity;        /* scale -1: it makes only cells with 2 * (row & 1) + (column & 1) == parity */
  int32_t taps;          /* 1 to 256 */
  const gm_tap *tap;
  int32_t out;        /* map that it writes, or adds to; -1: none */
  int32_t active;     /* map that gets the activation of what it made, -1: none; it may be ``out`` */
  int32_t activation; /* GM_COPY, GM_LEAKY; GM_ELU; GM_CONCAT_ELU: behind it that of the negative */
} gm_step;

/* The streams of a PixelCNN++: a program for each row and for the columns of a row. */
typedef struct gm_streams_data {
  int32_t images, width, channels;
  int32_t maps, steps, upper; /* the first ``upper`` steps see finished rows only; the last one gives the outputs */
  int32_t together;           /* columns that pass all steps of the left stream at once */
  const gm_map *map;
  const gm_step *step;
  int32_t planes;         /* map of what the upper stream sees, 2 * channels + 1 features */
  int32_t windows;        /* map of what the left stream sees: as a local net its window */
  const int16_t *samples; /* the first pixel's first, with margins as of gm_place; the caller's, who keeps it */
  int64_t image_size, row_size;
  const gm_layer_data *linear; /* the window: as of gm_net_data */
  const int32_t *near;
  int32_t runs;
  const int32_t *run;
  const int32_t *gate, *elu; /* [4095], [2048]: models/pixelcnnpp/tables.py */
} gm_streams_data;

typedef struct gm_functions {
  const char *isa; /* name of the instruction set these functions were compiled for */

  /* -- nets ------------------------------------------------------------------------------------------------------ */

  /* A net ready to code, with copies of all its arrays; null when memory is short. */
  gm_net *(*net_new)(const gm_net_data *net);
  void (*net_free)(gm_net *net);

  /* Outputs int32 [n, outputs] and centres of the means int32 [n, channels] of the pixels whose first samples are
   * samples[at[i]], int16, rows of row_size; condition int16 [n, condition], filled up to
   * an even number, or null: no layer reads one
   * then.  Not 0 when memory is short. */
  int32_t (*net_evaluate)(const gm_net *net, const int16_t *samples, int64_t row_size, const int64_t *at, int64_t n,
                          const int16_t *condition, int32_t *outputs, int32_t *base);

  /* What the net reads of the same pixels: int16 [n, features], and the centres. */
  void (*net_features)(const gm_net *net, const int16_t *samples, int64_t row_size, const int64_t *at, int64_t n,
                       int16_t *features, int32_t *base);

  /* -- tiles of one net, or of nets that learn while they code --------------------------------------------------- */

  /* A tile ready to be coded from its first step on.  learning: null, and one net; or rules for each of one or two
   * nets, of which the first reaches as far as any.  ranks: threads that share the work, 1 to 8.  Null when memory is
   * short.  The nets must outlive the tile; what a tile learns is its own. */
  gm_tile *(*tile_new)(const gm_net *const *nets, const gm_learning_data *learning, int32_t count,
                       const gm_place *place, const gm_coding *coding, int32_t ranks);
  void (*tile_free)(gm_tile *tile);

  /* Without learning: push the steps last - 1 down to first onto the stack; words has room for a word a nibble of
   * them.  Returns their bits.  One thread at a time. */
  double (*tile_push)(gm_tile *tile, int32_t first, int32_t last, gm_stack *stack, uint32_t *words);

  /* Without learning: of each ``every`` steps together, from the last on, how many pixels were chosen (one in
   * ``every``, as if by chance), and their bits; pixels int64 and bits float64 [ceil((last - first) / every)]. */
  void (*tile_sample)(gm_tile *tile, int32_t first, int32_t last, int32_t every, int64_t *pixels, double *bits);

  /* Without learning: pop the steps first to last - 1 into the samples.  words: as many as the stack counts. */
  void (*tile_pop)(gm_tile *tile, int32_t first, int32_t last, gm_stack *stack, const uint32_t *words);

  /* Only the net: outputs of all steps and nothing with them, to measure; a sum, so that nothing is left out. */
  int64_t (*tile_evaluate)(gm_tile *tile);

  /* Nibbles of the tile's pixels that are in each of the two stacks, int64 [2]: models/online/spec.py. */
  void (*tile_symbols)(const gm_tile *tile, int64_t *symbols);

  /* Learning: ranges of the steps' samples that are this rank's, into ranges[0] and ranges[1], those of the two
   * stacks in coding order.  Every rank calls it with the same steps, in a thread of its own; all must come.
   * Returns the bits. */
  double (*tile_ranges)(gm_tile *tile, int32_t rank, int32_t first, int32_t last, gm_range *const *ranges);

  /* Learning: pop the steps into the samples from two stacks; ranks as above. */
  void (*tile_pop_online)(gm_tile *tile, int32_t rank, int32_t first, int32_t last, gm_stack *stacks,
                          const uint32_t *const *words);

  /* Push ranges, the last first, onto an empty stack; words has room for as many. */
  void (*push_ranges)(const gm_range *ranges, int64_t count, gm_stack *stack, uint32_t *words);

  /* -- layers of nets that see maps of features: models/pixelcnnpp/spec.py, models/vae/spec.py ------------------- */

  gm_layer *(*layer_new)(const gm_layer_data *layer);
  void (*layer_free)(gm_layer *layer);

  /* What a layer makes of x int16 [n, columns]: sums, int32 [n, rows], or one of
   *   GM_HIDDEN       int16 [n, rows]: rescaled, leaky ReLU, clamped to +-limit
   *   GM_OUTPUT       int16 [n, rows]: rescaled, clamped;  GM_OUTPUT_WIDE  int32
   *   GM_RESIDUAL     int16 [n, rows], added to what is there, clamped
   *   GM_GATE         int16 [n, rows / 2]: a * sigmoid(b) added to what is there, clamped; table int32 [4095]
   * out_row: elements from one row of out to the next. */
  void (*layer_run)(const gm_layer *layer, int32_t kind, int32_t limit, const int16_t *x, int64_t x_row, int64_t n,
                    const int32_t *table, void *out, int64_t out_row);
  void (*layer_sums)(const gm_layer *layer, const int16_t *x, int64_t x_row, int64_t n, int32_t *out);

  /* The same of windows of size x size cells, an odd number, around every stride-th cell of x int16 [images, height,
   * width, features], zero outside: out [images, ceil(height / stride), ceil(width / stride), rows].  No GM_GATE.
   * Not 0 when memory is short. */
  int32_t (*convolve)(const gm_layer *layer, int32_t kind, int32_t limit, const int16_t *x, int64_t images,
                      int32_t height, int32_t width, int32_t features, int32_t size, int32_t stride, void *out);

  /* n values int16: leaky ReLU; ELU, by a table int32 of -elu(-v) for any |v|. */
  void (*leaky)(const int16_t *x, int64_t n, int16_t *out);
  void (*elu)(const int16_t *x, int64_t n, const int32_t *table, int16_t *out);

  /* Null when memory is short.  The layers must outlive it.  One thread at a time. */
  gm_streams *(*streams_new)(const gm_streams_data *data);
  void (*streams_free)(gm_streams *streams);

  /* Outputs int32 [last - first, images, outputs] and centres of the means int32 [last - first, images, channels] of
   * columns of a row.  Rows and columns in raster order, each once; the samples before them are known. */
  void (*streams_run)(gm_streams *streams, int32_t row, int32_t first, int32_t last, int32_t *outputs, int32_t *base);

  /* -- rows of frequencies, for coding/stack.py: exact/logistic.py, exact/gaussian.py -------------------------------
   */

  /* Weights int64 [n, k] before anything is known, from outputs int32 [n, row]. */
  void (*softmax)(const int32_t *outputs, int64_t row, int64_t n, int32_t k, const int32_t *table, int64_t *weights);

  /* Means and inverse scales int64 [n, k] of a channel, given samples int32 [n, channels] of those before it. */
  void (*open_channel)(const int32_t *outputs, int64_t row, const int32_t *base, const int32_t *samples, int64_t n,
                       int32_t channel, int32_t channels, int32_t k, const int32_t *inverse_table, int64_t *mean,
                       int64_t *inverse);

  /* Frequencies int32 [n, 16] of the high nibble (high null), or of the low one given high int32 [n]. */
  void (*nibble_rows)(const int64_t *weights, const int64_t *mean, const int64_t *inverse, int64_t n, int32_t k,
                      const int32_t *sigmoid, const int32_t *high, int32_t *rows);

  /* Weights int64 [n, k] after samples int32 [n] of the channel are known, in place. */
  void (*observe)(const int32_t *samples, int64_t n, int32_t k, const int64_t *mean, const int64_t *inverse,
                  const int32_t *sigmoid, int64_t *weights);

  /* Multiply low nibbles' frequencies int32 [n, 16] by weights int64 [256] of their values, in place; a row whose
   * values all weigh nothing is left as it is. */
  void (*reweight)(int32_t *rows, const int32_t *high, int64_t n, const int64_t *values);

  /* Frequencies int32 [n, 16] of a nibble of latents: gaussian.rows.  first, mean, log_scale int64 [n]. */
  void (*gaussian_rows)(const int64_t *first, int64_t step, const int64_t *mean, const int64_t *log_scale, int64_t n,
                        const int32_t *edges, int64_t edges_count, const int32_t *normal, int64_t normal_count,
                        const int32_t *inverse, int32_t *rows);

  /* -- filters of conventional forms: coding/filters.py ----------------------------------------------------------- */

  /* Residuals -> bytes, in place: rows uint8 [height, width], kinds uint8 [height] of PNG's five, step to the left. */
  void (*undo_png)(uint8_t *rows, int64_t row_size, const uint8_t *kinds, int64_t kind_size, int64_t height,
                   int64_t width, int64_t step);

  /* Residuals -> samples, in place: int32 [channels, height, width], modulo mask + 1. */
  void (*undo_med)(int32_t *planes, int64_t channels, int64_t height, int64_t width, int32_t mask);

  /* -- fitting a net to an image: models/local/fit_spec.py.  Not exact, but the same everywhere; see fit.hpp --------
   */

  /* The changes of outputs and of weights of the linear predictor that make the pixels likelier, as whole multiples
   * of quanta > 0, all [parameters = outputs + channels * near_count], and the nats that they gain.  Not 0 when memory
   * is short. */
  int32_t (*fit_changes)(const gm_fit_data *data, const double *quanta, double *changes, double *gain);

  /* The likelihood in nats at changes theta [parameters], within +-2**20, its gradient, and the sum of pixels' products
   * of slopes [parameters, parameters].  Not 0 when memory is short. */
  int32_t (*fit_likelihood)(const gm_fit_data *data, const double *theta, double *value, double *gradient,
                            double *fisher);
} gm_functions;

/* The functions for an instruction set by name, or for an empty name the best that this processor has.
 * Null for a name that is unknown or that this processor does not have. */
GM_EXPORT const gm_functions *gm_open(const char *isa);

/* Names of the instruction sets in this library that this processor has, the best first, separated by commas. */
GM_EXPORT const char *gm_isas(void);

#ifdef __cplusplus
}
#endif
#endif
