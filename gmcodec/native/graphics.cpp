// SPDX-License-Identifier: MIT
#include "graphics.hpp"

namespace gm::GM_ISA {

// Numbers of choices of weights and of probability maps.
static void run_choices(int *sets, int *maps) {
  sets[0] = 16, sets[1] = 16, sets[2] = 1, sets[3] = 1, maps[0] = 16, maps[1] = 16;
}
static void guess_choices(int *sets, int *maps) {
  sets[0] = 2 * 64, sets[1] = 8 * 8, sets[2] = 2 * 64, sets[3] = 2 * 8, maps[0] = 2 * 64, maps[1] = 8 * 8;
}
static void bit_choices(int channels, int *sets, int *maps) {
  sets[0] = channels * 8 * 128, sets[1] = channels * 8 * 8 * LEVELS, sets[2] = channels * 256, sets[3] = channels * 64;
  maps[0] = channels * 256, maps[1] = channels * 8 * 128;
}

static int count_bits(uint32_t bits) {
  int count = 0;
  for (; bits; bits >>= 1)
    count += bits & 1;
  return count;
}

static void allocate(const gm_graphics_data &data, Graphics &g) {
  Arena &arena = g.arena;
  int sets[WEIGHT_SETS], maps[2];
  g.tables = *data.tables, g.width = data.width, g.height = data.height, g.channels = data.channels;
  g.green = data.green, g.depth = data.depth, g.contexts = data.contexts, g.templates = data.bilevel ? TEMPLATES : 0,
  g.guessing = data.guessing, g.stride = data.stride, g.pixels = data.pixels;
  g.buckets = {arena.allocate<Bucket>((size_t)1 << data.bucket_bits), data.bucket_bits};
  g.places = arena.allocate<uint32_t>((size_t)1 << data.place_bits), g.place_bits = data.place_bits;
  g.pairs = arena.allocate<uint64_t>((size_t)1 << PAIR_BITS);
  for (int16_t *&errors : g.errors)
    errors = arena.allocate<int16_t>((size_t)(data.width + 2 * MARGIN) * data.channels * (PREDICTORS + 1));
  g.weights = arena.allocate<int32_t>((size_t)data.channels * ADAPTIVE_TAPS);
  g.scales = arena.allocate<Scales>(data.channels);
  if (data.net)
    g.net = allocate_net_input(arena, *data.net, data.channels);
  run_choices(sets, maps);
  g.runs = allocate_mixing(arena, 3, 0, 1, sets, maps);
  guess_choices(sets, maps);
  g.guesses = allocate_mixing(arena, count_bits(data.contexts & PIXEL_MASK), 1, 1, sets, maps);
  bit_choices(data.channels, sets, maps);
  g.bits = allocate_mixing(arena, count_bits(data.contexts) + g.templates, GRAPHICS_EXTRAS + has_net(g.net),
                           data.channels, sets, maps);
}

static void fill(Graphics &g) {
  static constexpr int WORTH[PIXEL_CONTEXTS] = {2, 2, 3, 1, 0, 0, 4}; // how much of the surroundings a context has
  static constexpr int START[LEVELS] = {722,  780,  870,  1009,  1223,  1553,  2062, 2847,
                                        4058, 5926, 8806, 13248, 20098, 30662, 46955};
  int sets[WEIGHT_SETS], maps[2];
  run_choices(sets, maps);
  fill(g.tables, g.runs, sets, maps);
  guess_choices(sets, maps);
  fill(g.tables, g.guesses, sets, maps);
  bit_choices(g.channels, sets, maps);
  fill(g.tables, g.bits, sets, maps);
  for (int k = 0, count = 0; k < PIXEL_CONTEXTS; ++k)
    if (g.contexts >> k & 1)
      g.guesses.worth[count] = g.bits.worth[count] = WORTH[k], ++count;
  for (int c = 0; c < g.channels; ++c) {
    g.weights[c * ADAPTIVE_TAPS + 10 + (g.green >= 0 && c > g.green ? 4 * (c - g.green) : 0)] = 1 << WEIGHT_BITS;
    for (int level = 0; level < LEVELS; ++level)
      g.scales[c].blended[level] = g.scales[c].adapted[level] = START[level];
  }
}

gm_graphics *graphics_new(const gm_graphics_data *data) {
  Graphics *g = Arena::make<Graphics>();
  if (!g)
    return nullptr;
  allocate(*data, *g);
  if ((g = Arena::complete(g)))
    fill(*g);
  return reinterpret_cast<gm_graphics *>(g);
}

void graphics_free(gm_graphics *handle) { Arena::destroy(reinterpret_cast<Graphics *>(handle)); }

// -- runs: stretches of the colour that all neighbours have -----------------------------------------------------------

// The pixels from here on above which all is one colour, which the match predicts as well.
static int run_length(const Graphics &g, const uint32_t *here, int left) {
  const uint32_t *above = here - g.stride;
  const uint32_t colour = above[0];
  if (here[-1] != colour || above[-1] != colour || above[1] != colour)
    return 0;
  const uint32_t *match = g.match.length ? g.pixels + g.match.at : nullptr;
  int length = 0;
  while (length < left && length < MAX_RUN_PIXELS && above[length + 1] == colour &&
         (!match || (match + length < here && match[length] == colour)))
    ++length;
  return length;
}

// Whether the next ``length`` pixels of a run have its colour.
template <typename Coder>
static bool decide_run(Graphics &g, const uint32_t *middle, uint32_t colour, int length, int depth, Coder &coder,
                       bool wanted) {
  const int size = log2_floor(length), matched = match_level(g.match.length);
  const int matching = (matched > 0) + (matched >= 4) + (matched >= 6), part = depth > 0;
  const bool above = middle[-2 * g.stride] == colour;
  const uint64_t hash[3] = {combine(1, depth), combine(combine(2, colour), 4 * depth + (matched > 0)),
                            combine(combine(3, above), depth)};
  Bucket *bucket[MAX_CONTEXTS];
  Decision d{};
  find(g.buckets, hash, 3, bucket);
  for (int k = 0; k < 3; ++k)
    d.slot[k] = &bucket[k]->slot[size];
  d.choice[0] = 8 * part + smaller(size, 7), d.choice[1] = 4 * smaller(depth, 2) + matching;
  d.map_choice[0] = d.choice[0], d.map_choice[1] = size;
  return decide(g.tables, g.runs, d, coder, wanted);
}

static int equal_pixels(const uint32_t *here, uint32_t colour, int length) {
  int count = 0;
  while (count < length && here[count] == colour)
    ++count;
  return count;
}

// The number of pixels that have the colour of a run of ``length`` pixels: all of them, or it is found by halving.
template <bool ENCODE, typename Coder> static int code_run(Graphics &g, uint32_t *here, int length, Coder &coder) {
  const uint32_t colour = here[-1];
  const int known = ENCODE ? equal_pixels(here, colour, length) : 0;
  int start = 0, end = length, part = length;
  for (int depth = 0; end - start > 1 || depth == 0; depth = smaller(depth + 1, 3)) {
    if (decide_run(g, here + start + part / 2, colour, part, depth, coder, known >= start + part))
      start += part;
    else
      end = start + part;
    part = (end - start) / 2;
  }
  for (int i = 0; i < start && !ENCODE; ++i)
    here[i] = colour;
  return start;
}

// -- pixels --------------------------------------------------------------------------------------------------------

// A pixel that is coded: what does not depend on the channel.
struct Pixel {
  uint32_t *here;
  int row, column;
  Neighbours near;
  uint32_t matched; // the pixel that the match predicts, 0 without a match
  int match_level, equal;
  uint64_t hash[PIXEL_CONTEXTS];
  uint64_t *pair;
};

static void follow_match(Graphics &g, const Pixel &pixel, uint64_t hash) {
  uint32_t &place = g.places[hash * KEY_MULTIPLIER >> (64 - g.place_bits)];
  if (!g.match.length && place)
    g.match = {(int64_t)place - 1, 1};
  place = (uint32_t)(pixel.here - g.pixels) + 1;
}

static Pixel look_around(Graphics &g, uint32_t *here, int row, int column, bool deviates) {
  Pixel pixel{here, row, column, neighbours(here, g.stride), 0, 0, 0, {}, nullptr};
  const Neighbours &p = pixel.near;
  const uint64_t eleven = eleven_hash(p), pair = combine(combine(0, p.w), p.n);
  follow_match(g, pixel, g.templates ? template_hash(here, g.stride, PLACE_TEMPLATE, 30) : eleven);
  pixel.matched = g.match.length ? g.pixels[g.match.at] : 0;
  pixel.match_level = match_level(g.match.length);
  pixel.equal = equalities(p) | deviates << 6;
  pixel.pair = &g.pairs[pair * KEY_MULTIPLIER >> (64 - PAIR_BITS)];
  const uint64_t hash[PIXEL_CONTEXTS] = {
      combine(combine(combine(1, p.w), p.n), p.nw),
      combine(combine(combine(2, p.w), p.n), p.ne),
      six_hash(p),
      combine(4, p.n),
      combine(combine(combine(5, p.w), p.ww), p.www),
      combine(combine(6, p.n), p.nn),
      eleven,
      combine(combine(combine(8, p.w), p.ne), p.nw),
      9,
      combine(10, p.ne),
      combine(combine(combine(11, p.n), p.ne), p.nee),
      combine(combine(12, pixel.matched), pixel.match_level),
      combine(13, *pixel.pair),
      14,
  };
  memcpy(pixel.hash, hash, sizeof hash);
  return pixel;
}

// Whether a pixel is guessed to be the one of the match, or W.
GM_INLINE bool is_guessed(const Graphics &g, const Pixel &pixel) {
  if (g.guessing == 2)
    return pixel.match_level >= 3 || pixel.near.w == pixel.near.n;
  return g.guessing && pixel.match_level >= 5;
}

template <typename Coder>
static bool decide_guess(Graphics &g, const Pixel &pixel, uint32_t guess, Coder &coder, bool wanted) {
  uint64_t hash[MAX_CONTEXTS];
  Bucket *bucket[MAX_CONTEXTS];
  int count = 0;
  const bool matched = pixel.match_level > 0;
  for (int k = 0; k < PIXEL_CONTEXTS; ++k)
    if (g.contexts >> k & 1)
      hash[count++] = combine(pixel.hash[k], matched ? 22 : 23);
  find(g.buckets, hash, count, bucket);
  Decision d{};
  for (int k = 0; k < count; ++k)
    d.slot[k] = &bucket[k]->slot[0];
  const Neighbours &p = pixel.near;
  const int same = (guess == p.w) | (guess == p.n) << 1 | (guess == p.ne) << 2;
  d.extra[0] = 64 * pixel.match_level;
  d.choice[0] = d.map_choice[0] = 64 * matched + (pixel.equal & 63);
  d.choice[1] = d.map_choice[1] = 8 * pixel.match_level + same;
  d.choice[2] = 64 * matched + 8 * same + (guess == p.nw) + 2 * (guess == p.ww) + 4 * (guess == p.nn);
  d.choice[3] = 8 * matched;
  return decide(g.tables, g.guesses, d, coder, wanted);
}

// The contexts of a channel that need no predictions.  ``known``: a hash of the channels before it.
static int hash_pixel(const Graphics &g, const Pixel &pixel, int c, uint64_t known, uint64_t *out) {
  int count = 0;
  for (int k = 0; k < PIXEL_CONTEXTS; ++k)
    if (g.contexts >> k & 1)
      out[count++] = combine(combine(k == 13 ? combine(14, sample(pixel.near.w, c)) : pixel.hash[k], known), c);
  return count;
}

// The others.
static int hash_numbers(const Graphics &g, const Pixel &pixel, int c, const Numbers &numbers, uint64_t *out) {
  const Neighbours &p = pixel.near;
  const int w = sample(p.w, c), n = sample(p.n, c), *guess = numbers.guess, green = g.green;
  const bool coloured = green >= 0 && c > green;
  const int from_w = coloured ? sample(*pixel.here, green) - sample(p.w, green) : 0;
  const int from_n = coloured ? sample(*pixel.here, green) - sample(p.n, green) : 0;
  const uint64_t hash[ALL_CONTEXTS - PIXEL_CONTEXTS] = {
      combine(combine(15, (numbers.blended + 4) >> 3), w),
      combine(16, guess[3]),
      combine(combine(17, guess[6]), numbers.level >> 1),
      combine(combine(combine(18, w), n), numbers.level),
      combine(combine(combine(19, guess[0]), guess[1]), guess[2]),
      combine(combine(20, (uint64_t)from_w), w),
      combine(combine(21, (uint64_t)from_n), n),
  };
  int count = 0;
  for (int k = PIXEL_CONTEXTS; k < ALL_CONTEXTS; ++k)
    if (g.contexts >> k & 1)
      out[count++] = combine(hash[k - PIXEL_CONTEXTS], c);
  for (int k = 0; k < g.templates; ++k)
    out[count++] = template_hash(pixel.here, g.stride, TEMPLATE[k], 31 + (uint64_t)k);
  return count;
}

// Whether the net is asked: not where contexts know enough.
GM_INLINE bool needs_net(const Graphics &g, const Pixel &pixel) {
  return has_net(g.net) && (pixel.equal & 15) != 15 && pixel.match_level < 5;
}

// A sign for a bit that is predicted, 0 if the bits before it were others.
GM_INLINE int predicted_bit(int value, int so_far, int bit) {
  return (value | 256) >> (bit + 1) != so_far ? 0 : value >> bit & 1 ? 1 : -1;
}

template <typename Coder>
static int code_sample(Graphics &g, const Pixel &pixel, int c, const Numbers &numbers, uint64_t *hash, int count,
                       Coder &coder, int wanted) {
  const MixingTables &tables = g.tables;
  Bucket *bucket[MAX_CONTEXTS];
  const int matched = sample(pixel.matched, c);
  const int scale = g.scales[c].blended[numbers.level];
  Distribution distributions[3] = {distribution(numbers.blended, scale),
                                   distribution(8 * numbers.guess[0], scale * 10 / 7),
                                   distribution(numbers.adapted >> 1, g.scales[c].adapted[numbers.level])};
  const bool net = has_input(g.net, c);
  if (net)
    begin_sample(g.net, c);
  Decision d{};
  d.channel = c;
  int so_far = 1 << (8 - g.depth), node = 0; // the highest bits, of samples of fewer than 8, are zeros
  for (int bit = g.depth - 1; bit >= 0; --bit) {
    if (bit == g.depth - 1 || bit == 3) {
      node = 1;
      for (int k = 0; k < count && bit < g.depth - 1; ++k)
        hash[k] = combine(hash[k], so_far);
      find(g.buckets, hash, count, bucket);
    }
    for (int k = 0; k < count; ++k)
      d.slot[k] = &bucket[k]->slot[node - 1];
    const int middle = (so_far << (bit + 1) & 255) + (1 << bit), place = 8 * c + bit;
    const int match = pixel.match_level ? predicted_bit(matched, so_far, bit) : 0;
    d.extra[0] = match * (64 + 48 * pixel.match_level), d.extra[2] = match * 128;
    d.extra[1] = 256 * predicted_bit(numbers.guess[0], so_far, bit);
    int64_t net_middle = 0;
    if (net) {
      net_middle = mass_below(net_logistics(g.net), middle, BYTES);
      d.extra[GRAPHICS_EXTRAS] = stretch(tables, upper_probability(g.net, net_middle));
    }
    int mass[3];
    for (int i = 0; i < 3; ++i) {
      mass[i] = mass_below(tables, distributions[i], 8 * middle - 4);
      d.extra[3 + i] = bit_input(tables, distributions[i], mass[i]);
    }
    d.choice[0] = place * 128 + pixel.equal;
    d.choice[1] = (place * 8 + (match ? pixel.match_level : 0)) * LEVELS + numbers.level;
    d.choice[2] = c * 256 + so_far;
    d.choice[3] = place * 8;
    d.map_choice[0] = d.choice[2], d.map_choice[1] = d.choice[0];
    const bool one = decide(tables, g.bits, d, coder, wanted >> bit & 1);
    for (int i = 0; i < 3; ++i)
      (one ? distributions[i].below : distributions[i].above) = mass[i];
    if (net)
      (one ? g.net.below : g.net.above) = net_middle;
    so_far = 2 * so_far + one, node = 2 * node + one;
  }
  if (net)
    end_sample(g.net, c, so_far & 255);
  return so_far & 255;
}

template <bool ENCODE, typename Coder>
static void code_channels(Graphics &g, const Pixel &pixel, Coder &coder, uint32_t wanted) {
  const int row = pixel.row, column = pixel.column;
  uint32_t *here = pixel.here;
  uint64_t known = 0;
  if (!ENCODE)
    *here = 0;
  g.net.active = needs_net(g, pixel);
  if (g.net.active)
    begin_pixel(g.net, row, column);
  for (int c = 0; c < g.channels; ++c) {
    Numbers numbers;
    uint64_t hash[MAX_CONTEXTS];
    const int count = hash_pixel(g, pixel, c, known, hash);
    prefetch(g.buckets, hash, count); // memory is slow, so ask for it early
    simple_guesses(pixel.near, c, numbers.guess);
    if (g.green >= 0 && c > g.green)
      correct_guesses(pixel.near, *here, g.green, c, numbers.guess);
    for (int &guess : numbers.guess)
      guess = to_byte(guess);
    blend(g, row, column, c, numbers);
    gather_taps(g, pixel.near, *here, c, numbers);
    const int all = count + hash_numbers(g, pixel, c, numbers, hash + count);
    const int value = code_sample(g, pixel, c, numbers, hash, all, coder, sample(wanted, c));
    if (!ENCODE)
      *here |= (uint32_t)value << (8 * c);
    learn_numbers(g, row, column, c, value, numbers);
    known = combine(known, (uint64_t)value + 1);
  }
}

static void finish_pixel(Graphics &g, const Pixel &pixel) {
  *pixel.pair = *pixel.pair << 32 | *pixel.here;
  if (has_net(g.net))
    put_pixels(g.net, pixel.row, pixel.column, pixel.here, 1);
  if (g.match.length)
    g.match.length = pixel.matched == *pixel.here ? smaller(g.match.length + 1, 65535) : 0;
}

template <bool ENCODE, typename Coder>
static void code_pixel(Graphics &g, uint32_t *here, int row, int column, bool deviates, Coder &coder) {
  const uint32_t wanted = ENCODE ? *here : 0;
  Pixel pixel = look_around(g, here, row, column, deviates);
  if (is_guessed(g, pixel)) {
    const uint32_t guess = pixel.match_level ? pixel.matched : pixel.near.w;
    if (decide_guess(g, pixel, guess, coder, wanted == guess)) {
      *here = guess;
      memset(errors_at(g, row, column, 0), 0, sizeof(int16_t) * (size_t)g.channels * (PREDICTORS + 1));
      finish_pixel(g, pixel);
      return;
    }
    pixel.equal |= 64;
  }
  code_channels<ENCODE>(g, pixel, coder, wanted);
  finish_pixel(g, pixel);
}

// -- images --------------------------------------------------------------------------------------------------------

// What lies beyond the ends of rows: the pixel above the first one, and the last one of the row above.
static void fill_margins(const Graphics &g, uint32_t *row, int number) {
  const uint32_t above = number ? row[-g.stride] : 0;
  for (int i = 1; i <= MARGIN; ++i)
    row[-i] = above;
  for (int i = 0; i < MARGIN && number; ++i)
    row[g.width + i - g.stride] = row[g.width - 1 - g.stride];
}

static void skip(Graphics &g, int row, int column, int count) {
  memset(errors_at(g, row, column, 0), 0, sizeof(int16_t) * (size_t)count * g.channels * (PREDICTORS + 1));
  if (has_net(g.net))
    put_pixels(g.net, row, column, g.pixels + row * g.stride + column, count);
  if (g.match.length)
    g.match = {g.match.at + count, smaller(g.match.length + count, 65535)};
}

// Code the pixels from ``first`` on until ``last`` is passed; returns the next one.
template <bool ENCODE, typename Coder> static int64_t code(Graphics &g, int64_t first, int64_t last, Coder &coder) {
  while (first < last) {
    const int row = (int)(first / g.width), column = (int)(first % g.width);
    uint32_t *here = g.pixels + row * g.stride + column;
    if (column == 0) {
      fill_margins(g, here, row);
      g.match.length = 0;
    }
    const int length = run_length(g, here, g.width - column);
    const int run = length >= 2 ? code_run<ENCODE>(g, here, length, coder) : 0;
    if (run) {
      skip(g, row, column, run);
      first += run;
    }
    if (length >= 2 && run == length)
      continue;
    code_pixel<ENCODE>(g, here + run, row, column + run, length >= 2, coder);
    if (g.match.length)
      ++g.match.at;
    ++first;
  }
  return first;
}

int64_t graphics_encode(gm_graphics *handle, int64_t first, int64_t last, uint32_t *decisions, int64_t *count) {
  DecisionWriter writer{decisions, 0};
  first = code<true>(*reinterpret_cast<Graphics *>(handle), first, last, writer);
  *count = writer.count;
  return first;
}

int64_t graphics_decode(gm_graphics *handle, int64_t first, int64_t last, gm_decision_reader *reader) {
  DecisionReader coder{*reader};
  return code<false>(*reinterpret_cast<Graphics *>(handle), first, last, coder);
}

void push_decisions(const uint32_t *decisions, int64_t count, uint32_t *state, uint16_t *words, int64_t *word_count) {
  uint32_t x = 0;
  int64_t n = 0;
  for (int64_t i = count - 1; i >= 0; --i) {
    const Outcome o = outcome(decisions[i] & (DECISION_TOTAL - 1), decisions[i] >> DECISION_BITS);
    if (x >> DECISION_BITS >= o.freq) {
      words[n++] = (uint16_t)x;
      x >>= DECISION_BITS;
    }
    x = (x / o.freq << DECISION_BITS) + x % o.freq + o.start;
  }
  *state = x, *word_count = n;
}

} // namespace gm::GM_ISA
