// SPDX-License-Identifier: MIT
// What a net of photographs expects of the samples of a pixel, as an input of the mixer: models/graphics/net_spec.py is
// the specification.
#pragma once

#include "net.hpp"

namespace gm::GM_ISA {

constexpr int MASS_BITS = 24; // of a mass, of the bits that the probability of a bit is made of

struct NetInput {
  gm_graphics_net data; // without a net, its ``net`` is null
  int channels, first;  // of the net; the first of them in a pixel
  Activations scratch;
  int32_t base[MAX_CHANNELS], known[MAX_CHANNELS]; // centres of means; samples of the pixel
  Mixture mix;
  int64_t below, above; // masses at the ends of what the known bits of a sample leave
  bool active;          // whether the net is asked for this pixel
};

inline NetInput allocate_net_input(Arena &arena, const gm_graphics_net &data, int pixel_channels) {
  const Net &net = net_of(data.net);
  return {data,
          net.channels,
          pixel_channels - net.channels,
          allocate_activations(arena, net),
          {},
          {},
          allocate_mixture(arena, 1, net.mixtures),
          0,
          0,
          false};
}

GM_INLINE bool has_net(const NetInput &input) { return input.data.net != nullptr; }

// Whether the net says something of a channel of this pixel.
GM_INLINE bool has_input(const NetInput &input, int channel) { return input.active && channel >= input.first; }

GM_INLINE int64_t net_offset(const NetInput &input, int row, int column) {
  return input.data.origin + row * input.data.row_size + (int64_t)column * input.channels;
}

GM_INLINE MemberOutputs net_outputs(const NetInput &input) {
  const Net &net = net_of(input.data.net);
  return {input.scratch.outputs, net.output_columns, input.base, net.mixtures, net.tables};
}

GM_INLINE Logistics net_logistics(const NetInput &input) {
  return logistics(input.mix, 0, net_of(input.data.net).tables);
}

// Pixels that are known from now on.
static inline void put_pixels(const NetInput &input, int row, int column, const uint32_t *pixels, int count) {
  int16_t *to = input.data.samples + net_offset(input, row, column);
  for (int i = 0; i < count; ++i)
    for (int c = 0; c < input.channels; ++c)
      *to++ = (int16_t)(pixels[i] >> (8 * (input.first + c)) & 255);
}

static inline void begin_pixel(NetInput &input, int row, int column) {
  static constexpr int64_t MIXING[1] = {(int64_t)1 << MIXING_BITS};
  const int64_t offset = net_offset(input, row, column);
  evaluate_block(net_of(input.data.net), input.data.samples, input.data.row_size, &offset, 1, nullptr, input.scratch,
                 input.scratch.outputs, input.base);
  const MemberOutputs outputs = net_outputs(input);
  prior_weights(input.mix, &outputs, 1, MIXING, 1);
}

static inline void begin_sample(NetInput &input, int channel) {
  const MemberOutputs outputs = net_outputs(input);
  mixture_logistics(input.mix, &outputs, 1, input.known, channel - input.first, input.channels, BYTES.shift, 1);
  input.below = 0, input.above = TOP;
}

// Twelve bits of the probability that a bit is one, which begins at the mass ``middle``.
GM_INLINE int upper_probability(const NetInput &input, int64_t middle) {
  constexpr int SHIFT = MIXTURE_WEIGHT_BITS + TOTAL_BITS - MASS_BITS;
  const int64_t whole = (input.above - input.below) >> SHIFT, upper = (input.above - middle) >> SHIFT;
  return (int)smaller<int64_t>(((upper + 1) << 12) / (whole + 2), 4095);
}

static inline void end_sample(NetInput &input, int channel, int value) {
  const int c = channel - input.first;
  input.known[c] = value;
  if (c + 1 < input.channels)
    observe(net_logistics(input), value, BYTES);
}

} // namespace gm::GM_ISA
