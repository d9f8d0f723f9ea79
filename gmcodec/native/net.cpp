// SPDX-License-Identifier: MIT
#include "net.hpp"

namespace gm::GM_ISA {

gm_net *net_new(const gm_net_data *data) {
  Net *net = Arena::make<Net>();
  if (!net)
    return nullptr;
  allocate(*data, *net);
  if ((net = Arena::complete(net)))
    fill(*data, *net);
  return reinterpret_cast<gm_net *>(net);
}

void net_free(gm_net *net) { Arena::destroy(reinterpret_cast<Net *>(net)); }

int32_t net_evaluate(const gm_net *handle, const int16_t *samples, int64_t row_size, const int64_t *offsets, int64_t n,
                     const int16_t *condition, int32_t *outputs, int32_t *base) {
  const Net &net = net_of(handle);
  Arena arena;
  Activations scratch = allocate_activations(arena, net);
  for (int64_t start = 0; start < n && !arena.failed; start += BLOCK_PIXELS) {
    const int count = (int)smaller<int64_t>(BLOCK_PIXELS, n - start);
    evaluate_block(net, samples, row_size, offsets + start, count,
                   condition ? condition + start * net.condition : nullptr, scratch, scratch.outputs,
                   base + start * net.channels);
    for (int i = 0; i < count; ++i)
      memcpy(outputs + (start + i) * net.outputs, scratch.outputs + (ptrdiff_t)i * net.output_columns,
             sizeof(int32_t) * net.outputs);
  }
  arena.release();
  return arena.failed;
}

void net_features(const gm_net *handle, const int16_t *samples, int64_t row_size, const int64_t *offsets, int64_t n,
                  int16_t *out, int32_t *base) {
  const Net &net = net_of(handle);
  for (int64_t i = 0; i < n; ++i)
    features(net.window, samples + offsets[i], row_size, BYTES, out + i * net.window.features, base + i * net.channels);
}

} // namespace gm::GM_ISA
