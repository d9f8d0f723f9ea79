// SPDX-License-Identifier: MIT
#include "tile.hpp"

namespace gm::GM_ISA {

void tile_free(gm_tile *tile) { Arena::destroy(&tile_of(tile)); }

static void lay_out_coding(const gm_coding &data, int channels, Tile &tile) {
  int64_t *values = data.values ? tile.arena.take<int64_t>((size_t)channels * 256) : nullptr;
  uint8_t *weighted = data.values ? tile.arena.take<uint8_t>(channels) : nullptr;
  if (values && weighted) {
    memcpy(values, data.values, sizeof(int64_t) * channels * 256);
    memcpy(weighted, data.weighted, channels);
  }
  tile.coding = {data.scale, channels, data.nibbles, values, weighted};
}

gm_tile *tile_new(const gm_net *const *nets, const gm_learning_data *learning, int32_t count, const gm_place *place,
                  const gm_coding *coding, int32_t ranks) {
  Tile *tile = Arena::make<Tile>();
  if (!tile)
    return nullptr;
  tile->place = place_of(*place);
  lay_out_coding(*coding, place->channels, *tile);
  if (learning)
    lay_out_online(*tile, nets, learning, count, ranks);
  else
    lay_out_fixed(*tile, net_of(nets[0]));
  return reinterpret_cast<gm_tile *>(Arena::whole(tile));
}

} // namespace gm::GM_ISA
