// SPDX-License-Identifier: MIT
#include "tile.hpp"

namespace gm::GM_ISA {

void tile_free(gm_tile *tile) { Arena::destroy(&tile_of(tile)); }

static void copy_coding(const gm_coding &data, int channels, Tile &tile) {
  int64_t *values = data.values ? tile.arena.allocate<int64_t>((size_t)channels * 256) : nullptr;
  uint8_t *weighted = data.values ? tile.arena.allocate<uint8_t>(channels) : nullptr;
  if (values && weighted) {
    memcpy(values, data.values, sizeof(int64_t) * channels * 256);
    memcpy(weighted, data.weighted, channels);
  }
  tile.coding = {data.scale, channels, data.nibbles, values, weighted};
}

gm_tile *tile_new(const gm_net *const *nets, const gm_rmsprop_net *rmsprop, int32_t count,
                  const gm_tile_geometry *geometry, const gm_coding *coding, int32_t workers) {
  Tile *tile = Arena::make<Tile>();
  if (!tile)
    return nullptr;
  tile->geometry = tile_geometry(*geometry);
  copy_coding(*coding, geometry->channels, *tile);
  if (rmsprop)
    allocate_online(*tile, nets, rmsprop, count, workers);
  else
    allocate_fixed(*tile, net_of(nets[0]));
  return reinterpret_cast<gm_tile *>(Arena::complete(tile));
}

} // namespace gm::GM_ISA
