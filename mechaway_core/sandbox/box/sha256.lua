-- SHA-256 (FIPS 180-4): gives a function from bytes to 64 hexadecimal digits.

local char, format, gsub, rep, sub, pack, unpack_bytes, tonumber = ...

local ROUND

local function rounds() -- the first 32 bits of the fractional parts of the cube roots of the first 64 primes
  ROUND = {unpack_bytes(">" .. rep("I4", 64), (gsub(
    "428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5d807aa9812835b01243185be550c7dc372be5d7480deb1fe9bdc06a7c19bf174"
    .. "e49b69c1efbe47860fc19dc6240ca1cc2de92c6f4a7484aa5cb0a9dc76f988da983e5152a831c66db00327c8bf597fc7c6e00bf3d5a7914706ca635114292967"
    .. "27b70a852e1b21384d2c6dfc53380d13650a7354766a0abb81c2c92e92722c85a2bfe8a1a81a664bc24b8b70c76c51a3d192e819d6990624f40e3585106aa070"
    .. "19a4c1161e376c082748774c34b0bcb5391c0cb34ed8aa4a5b9cca4f682e6ff3748f82ee78a5636f84c878148cc7020890befffaa4506cebbef9a3f7c67178f2",
    "%x%x", function(hex) return char(tonumber(hex, 16)) end)))}
  return ROUND
end

local function sha256(message)
  local K, W = ROUND or rounds(), {}
  local h1, h2, h3, h4, h5, h6, h7, h8 =
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
  local length = #message
  local tail = sub(message, length - length % 64 + 1) .. "\128"
  tail = tail .. rep("\0", (56 - #tail) % 64) .. pack(">I8", length * 8)
  local function block(source, at)
    W[1], W[2], W[3], W[4], W[5], W[6], W[7], W[8], W[9], W[10], W[11], W[12], W[13], W[14], W[15], W[16] =
      unpack_bytes(">I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4", source, at)
    for i = 17, 64 do
      local x, y = W[i - 15], W[i - 2]
      x = x | x << 32 -- both halves alike: a shift right is then a rotation, in the lower 32 bits
      y = y | y << 32
      W[i] = W[i - 16] + W[i - 7] + ((x >> 7 ~ x >> 18 ~ (x & 0xffffffff) >> 3) & 0xffffffff)
        + ((y >> 17 ~ y >> 19 ~ (y & 0xffffffff) >> 10) & 0xffffffff) & 0xffffffff
    end
    local a, b, c, d, e, f, g, h = h1, h2, h3, h4, h5, h6, h7, h8
    for i = 1, 64 do
      local ee, aa = e | e << 32, a | a << 32
      local t = h + ((ee >> 6 ~ ee >> 11 ~ ee >> 25) & 0xffffffff) + (g ~ e & (f ~ g)) + K[i] + W[i]
      local u = ((aa >> 2 ~ aa >> 13 ~ aa >> 22) & 0xffffffff) + (a & b | c & (a | b))
      h, g, f, e, d, c, b, a = g, f, e, d + t & 0xffffffff, c, b, a, t + u & 0xffffffff
    end
    h1, h2, h3, h4 = h1 + a & 0xffffffff, h2 + b & 0xffffffff, h3 + c & 0xffffffff, h4 + d & 0xffffffff
    h5, h6, h7, h8 = h5 + e & 0xffffffff, h6 + f & 0xffffffff, h7 + g & 0xffffffff, h8 + h & 0xffffffff
  end
  for at = 1, length - length % 64, 64 do block(message, at) end
  for at = 1, #tail, 64 do block(tail, at) end
  return format("%08x%08x%08x%08x%08x%08x%08x%08x", h1, h2, h3, h4, h5, h6, h7, h8)
end

return sha256
