// SPDX-License-Identifier: MIT
// The table of functions.  It is compiled once for each instruction set; GM_ISA is the set's name and namespace.
#include "gmcodec.h"

#define GM_TEXT(name) #name
#define GM_NAME(name) GM_TEXT(name)

namespace gm::GM_ISA {

gm_net *net_new(const gm_net_data *);
void net_free(gm_net *);
int32_t net_evaluate(const gm_net *, const int16_t *, int64_t, const int64_t *, int64_t, const int16_t *, int32_t *,
                     int32_t *);
void net_features(const gm_net *, const int16_t *, int64_t, const int64_t *, int64_t, int16_t *, int32_t *);
gm_tile *tile_new(const gm_net *const *, const gm_rmsprop_net *, int32_t, const gm_tile_geometry *, const gm_coding *,
                  int32_t);
void tile_free(gm_tile *);
double tile_push(gm_tile *, int32_t, int32_t, gm_stack *, uint32_t *);
void tile_sample(gm_tile *, int32_t, int32_t, int32_t, int64_t *, double *);
void tile_pop(gm_tile *, int32_t, int32_t, gm_stack *, const uint32_t *);
int64_t tile_evaluate(gm_tile *);
void tile_symbols(const gm_tile *, int64_t *);
double tile_intervals(gm_tile *, int32_t, int32_t, int32_t, gm_interval *const *);
void tile_pop_online(gm_tile *, int32_t, int32_t, int32_t, gm_stack *, const uint32_t *const *);
void push_intervals(const gm_interval *, int64_t, gm_stack *, uint32_t *);
gm_layer *layer_new(const gm_layer_data *);
void layer_free(gm_layer *);
void layer_run(const gm_layer *, int32_t, int32_t, const int16_t *, int64_t, int64_t, const int32_t *, void *, int64_t);
void layer_sums(const gm_layer *, const int16_t *, int64_t, int64_t, int32_t *);
int32_t convolve(const gm_layer *, int32_t, int32_t, const int16_t *, int64_t, int32_t, int32_t, int32_t, int32_t,
                 int32_t, void *);
void leaky(const int16_t *, int64_t, int16_t *);
void elu(const int16_t *, int64_t, const int32_t *, int16_t *);
gm_streams *streams_new(const gm_streams_data *);
void streams_free(gm_streams *);
void streams_run(gm_streams *, int32_t, int32_t, int32_t, int32_t *, int32_t *);
void softmax_rows(const int32_t *, int64_t, int64_t, int32_t, const int32_t *, int64_t *);
void channel_rows(const int32_t *, int64_t, const int32_t *, const int32_t *, int64_t, int32_t, int32_t, int32_t,
                  const int32_t *, int64_t *, int64_t *);
void nibble_rows(const int64_t *, const int64_t *, const int64_t *, int64_t, int32_t, const int32_t *, const int32_t *,
                 int32_t *);
void observe_rows(const int32_t *, int64_t, int32_t, const int64_t *, const int64_t *, const int32_t *, int64_t *);
void reweight(int32_t *, const int32_t *, int64_t, const int64_t *);
void gaussian_rows(const int64_t *, int64_t, const int64_t *, const int64_t *, int64_t, const int32_t *, int64_t,
                   const int32_t *, int64_t, const int32_t *, int32_t *);
void undo_png(uint8_t *, int64_t, const uint8_t *, int64_t, int64_t, int64_t, int64_t);
void undo_med(int32_t *, int64_t, int64_t, int64_t, int32_t);
int32_t fit_changes(const gm_fit_data *, const double *, double *, double *);
int32_t fit_likelihood(const gm_fit_data *, const double *, double *, double *, double *);
gm_graphics *graphics_new(const gm_graphics_data *);
void graphics_free(gm_graphics *);
int64_t graphics_encode(gm_graphics *, int64_t, int64_t, uint32_t *, int64_t *);
int64_t graphics_decode(gm_graphics *, int64_t, int64_t, gm_decision_reader *);
void push_decisions(const uint32_t *, int64_t, uint32_t *, uint16_t *, int64_t *);

extern const gm_functions functions;
const gm_functions functions = {
    GM_NAME(GM_ISA), net_new,       net_free,        net_evaluate,    net_features,
    tile_new,        tile_free,     tile_push,       tile_sample,     tile_pop,
    tile_evaluate,   tile_symbols,  tile_intervals,  tile_pop_online, push_intervals,
    layer_new,       layer_free,    layer_run,       layer_sums,      convolve,
    leaky,           elu,           streams_new,     streams_free,    streams_run,
    softmax_rows,    channel_rows,  nibble_rows,     observe_rows,    reweight,
    gaussian_rows,   undo_png,      undo_med,        fit_changes,     fit_likelihood,
    graphics_new,    graphics_free, graphics_encode, graphics_decode, push_decisions,
};

} // namespace gm::GM_ISA
