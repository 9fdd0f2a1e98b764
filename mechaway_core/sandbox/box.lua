-- The box: everything a script can see, and the way in and out of it.
--
-- One Lua runtime lives for one call. The worker loads this file into it, calls the function it returns once, with
-- bytes in and bytes out, and throws the runtime away. In order below (sha256.lua and check.lua are loaded when needed):
--   1. what the box itself needs, taken before any script can change it
--   2. JSON: decode, encode
--   3. SHA-256, and what stands on it
--   4. the script's world
--   5. the three calls: run, evaluate, check
--
-- Rules that keep a script in: the script's globals are not the real ones; `debug`, `load` and their like are reachable
-- only from locals in here; nothing in here looks into a script's table except with next, rawget and rawlen, or at a
-- key known to be there, so no metamethod of a script ever runs on the host's behalf; everything happens inside one
-- pcall, under the memory limit and under the timer of the worker.

local SHA256, CHECK = ... -- the parts in files of their own, as bytecode

-- 1. Kept from the real globals -----------------------------------------------------------------------------------

local assert, error, ipairs, next, pairs, pcall, rawequal, rawget, rawlen, rawset, select, tonumber, tostring, type, xpcall =
  assert, error, ipairs, next, pairs, pcall, rawequal, rawget, rawlen, rawset, select, tonumber, tostring, type, xpcall
local load, setmetatable, metatable_of, replace_metatable = load, setmetatable, debug.getmetatable, debug.setmetatable
local byte, char, find, format, gsub, match, rep, sub = string.byte, string.char, string.find, string.format, string.gsub, string.match, string.rep, string.sub
local pack, unpack_bytes = string.pack, string.unpack
local concat, sort, unpack = table.concat, table.sort, table.unpack
local math_type, floor, huge, randomseed = math.type, math.floor, math.huge, math.randomseed
local utf8_char, utf8_len = utf8.char, utf8.len
local clock, os_date, os_time, os_difftime = os.clock, os.date, os.time, os.difftime

local MEMORY = "not enough memory" -- Lua's own message; it is allocated once, so it can be raised when nothing else can
local DEEPEST = 100                -- levels of lists and objects inside each other

-- What was taken from the scripts' world is taken from the real one too. lupa reads `debug.traceback` before each call
-- it makes, unprotected: with `debug` false it goes without.
string.dump = nil
for _, name in ipairs{"python", "package", "require", "load", "loadfile", "dofile", "collectgarbage", "io", "os"} do _G[name] = nil end
debug = false

-- 2. JSON ---------------------------------------------------------------------------------------------------------

-- What JSON has and Lua has not. `null` is a table nobody can change; lists carry a metatable nobody can see; an object
-- remembers which of its keys were null, and writes them again while they are still absent.
local NULL = setmetatable({}, {
  __metatable = false, __name = "null",
  __tostring = function() return "null" end,
  __newindex = function() error("null cannot be changed", 2) end,
})
local LIST = {__metatable = false}
local DATA = {__metatable = false} -- the list `data`; its reading and writing of fields is in part 4
-- Looked up instead of compared: == would call a script's __eq, a table's key never does.
local IS_NULL, MARKS = {[NULL] = true}, {[LIST] = true, [DATA] = true}
local listed = setmetatable({}, {__mode = "k"})    -- lists that also have a metatable of the script's own
local null_keys = setmetatable({}, {__mode = "k"}) -- object → {key = true}

local text, dirty, deepest -- what is being decoded; whether it has backslashes or control characters; levels allowed

local function fail(position, what)
  error(format("%s at byte %d", what, position), 0)
end

local UNESCAPED = {
  [34] = '"', [47] = "/", [92] = "\\", [98] = "\b", [102] = "\f", [110] = "\n", [114] = "\r", [116] = "\t",
}

-- The string that starts at `position` (after its quote), when it has something to unescape.
local function decode_escaped(position)
  local start, pieces, n, whole = position, {}, 0, ""
  while true do
    local at = find(text, '[%c"\\]', position)
    if not at then fail(start - 1, "a string does not end, it starts") end
    if at > position then
      n = n + 1
      pieces[n] = sub(text, position, at - 1)
    end
    local c = byte(text, at)
    if c == 34 then
      return whole .. concat(pieces, "", 1, n), at + 1
    end
    n = n + 1
    if c == 127 then
      pieces[n] = "\127"
      position = at + 1
    elseif c ~= 92 then
      fail(at, "a control character inside a string")
    else
      local escaped = byte(text, at + 1)
      if escaped == 117 then
        local hex = match(text, "^%x%x%x%x", at + 2)
        if not hex then fail(at, "\\u without four hexadecimal digits") end
        local code = tonumber(hex, 16)
        position = at + 6
        if code >= 0xD800 and code <= 0xDFFF then
          local low = code < 0xDC00 and match(text, "^\\u([dD][c-fC-F]%x%x)", position)
          if low then
            code = 0x10000 + (code - 0xD800) * 0x400 + tonumber(low, 16) - 0xDC00
            position = position + 6
          else
            code = 0xFFFD -- half of a pair is no character
          end
        end
        pieces[n] = utf8_char(code)
      else
        pieces[n] = UNESCAPED[escaped] or fail(at, "a backslash before what needs none")
        position = at + 2
      end
    end
    if n >= 1000 then -- a long string of escapes must not cost a table entry each
      whole, n = whole .. concat(pieces, "", 1, n), 0
    end
  end
end

local function decode_string(position)
  local close = find(text, '"', position + 1, true)
  if not close then fail(position, "a string does not end, it starts") end
  local value = sub(text, position + 1, close - 1)
  if dirty and find(value, "[%c\\]") then
    return decode_escaped(position + 1)
  end
  return value, close + 1
end

-- tonumber reads what JSON allows and a little more; the patterns refuse that little.
local function decode_number(position)
  local digits = match(text, "^[%d.eE+-]+", position)
  local value = tonumber(digits)
  if not value then fail(position, "a number that is none") end
  if math_type(value) == "float" then
    if find(digits, "%.%D") or find(digits, "%.$") then fail(position, "a number that is none") end
    if value == huge or value == -huge then fail(position, "a number that is too large") end
  end
  return value, position + #digits
end

local function decode_odd_number(position) -- starts with 0 or -
  if find(text, "^-?0%d", position) or find(text, "^-%D", position) then fail(position, "a number that is none") end
  return decode_number(position)
end

local function decode_word(word, value)
  return function(position)
    if sub(text, position, position + #word - 1) ~= word then fail(position, "something that is not JSON") end
    return value, position + #word
  end
end

local decoders = {
  [34] = decode_string, [45] = decode_odd_number, [48] = decode_odd_number,
  [102] = decode_word("false", false), [110] = decode_word("null", NULL), [116] = decode_word("true", true),
}
for digit = 49, 57 do decoders[digit] = decode_number end

-- The first byte at or after `position` that is not white space, and where it is.
local function skip(position)
  position = find(text, "[^ \n\r\t]", position) or #text + 1
  return byte(text, position), position
end

local function decode_list(position, depth)
  if depth > deepest then fail(position, "JSON is nested deeper than " .. DEEPEST .. " levels") end
  local list, n = setmetatable({}, LIST), 0
  local c, value, close
  position = position + 1
  c = byte(text, position)
  if c ~= 93 and not decoders[c] then c, position = skip(position) end
  if c == 93 then return list, position + 1 end
  while true do
    if c == 34 and not dirty then -- most values: decode_string without the call
      close = find(text, '"', position + 1, true)
      if not close then fail(position, "a string does not end, it starts") end
      value, position = sub(text, position + 1, close - 1), close + 1
    else
      local decode = decoders[c]
      if not decode then
        c, position = skip(position)
        decode = decoders[c]
        if not decode then fail(position, c and "something that is not JSON" or "a list that does not end") end
      end
      value, position = decode(position, depth + 1)
    end
    n = n + 1
    list[n] = value
    c = byte(text, position)
    if c ~= 44 then
      if c ~= 93 then c, position = skip(position) end
      if c == 93 then return list, position + 1 end
      if c ~= 44 then fail(position, c and "a list without a comma" or "a list that does not end") end
    end
    position = position + 1
    c = byte(text, position)
  end
end

local function decode_object(position, depth)
  if depth > deepest then fail(position, "JSON is nested deeper than " .. DEEPEST .. " levels") end
  local object = {}
  local nulls, key, value, close
  position = position + 1
  local c = byte(text, position)
  if c ~= 34 then
    c, position = skip(position)
    if c == 125 then return object, position + 1 end
  end
  while true do
    if c ~= 34 then
      c, position = skip(position)
      if c ~= 34 then fail(position, c and "an object's key that is no string" or "an object that does not end") end
    end
    if dirty then
      key, position = decode_string(position)
    else
      close = find(text, '"', position + 1, true)
      if not close then fail(position, "a string does not end, it starts") end
      key, position = sub(text, position + 1, close - 1), close + 1
    end
    if byte(text, position) ~= 58 then
      c, position = skip(position)
      if c ~= 58 then fail(position, "an object's key without a colon") end
    end
    position = position + 1
    c = byte(text, position)
    if c == 34 and not dirty then -- most values: decode_string without the call
      close = find(text, '"', position + 1, true)
      if not close then fail(position, "a string does not end, it starts") end
      value, position = sub(text, position + 1, close - 1), close + 1
    else
      local decode = decoders[c]
      if not decode then
        c, position = skip(position)
        decode = decoders[c]
        if not decode then fail(position, c and "something that is not JSON" or "an object that does not end") end
      end
      value, position = decode(position, depth + 1)
    end
    if value == NULL then
      nulls = nulls or {}
      nulls[key] = true
      object[key] = nil -- a key given twice: the last one counts
    else
      object[key] = value
    end
    c = byte(text, position)
    if c ~= 44 then
      if c ~= 125 then c, position = skip(position) end
      if c == 125 then
        if nulls then null_keys[object] = nulls end
        return object, position + 1
      end
      if c ~= 44 then fail(position, c and "an object without a comma" or "an object that does not end") end
    end
    position = position + 1
    c = byte(text, position)
  end
end

decoders[91], decoders[123] = decode_list, decode_object

-- The value of a JSON text. Raises a string that says what is wrong and at which byte.
local function decode(source, levels)
  text, deepest = source, levels
  dirty = find(source, "\\", 1, true) or find(source, "%c")
  local c, position = skip(1)
  local decoder = decoders[c]
  if not decoder then fail(position, c and "something that is not JSON" or "nothing") end
  local value
  value, position = decoder(position, 1)
  c, position = skip(position)
  text = nil
  if c then error(format("something after the end of the JSON at byte %d", position), 0) end
  return value
end

local out, n          -- pieces of the text being written, and how many
local chunks, n_chunks -- pieces already joined
local flush_at        -- pieces that are joined to a chunk
local path, stack     -- where the encoder is, level by level: the key it follows, the table it is in
local root            -- what the whole is called in messages
local shapes, n_shapes -- first key → the keys of the last object that began with it, and their order when sorted

local function place(depth)
  local parts = {root}
  for level = 1, depth do
    local key = path[level]
    if depth > 12 and level > 6 and level <= depth - 3 then
      if level == 7 then parts[#parts + 1] = "…" end
    elseif math_type(key) then
      parts[#parts + 1] = format("[%d]", key)
    elseif find(key, "^[%a_][%w_]*$") and #key <= 100 then
      parts[#parts + 1] = "." .. key
    else
      parts[#parts + 1] = format('["%s"]', sub(key, 1, 100))
    end
  end
  return concat(parts)
end

local function refuse(depth, what)
  error(place(depth) .. " " .. what, 0)
end

local ESCAPES

local function escapes()
  ESCAPES = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f"}
  for code = 0, 31 do
    local c = char(code)
    ESCAPES[c] = ESCAPES[c] or format("\\u%04x", code)
  end
  return ESCAPES
end

-- The inside of a string that has something to escape or is not ASCII; nil when it is not UTF-8.
local function escape(value)
  if find(value, "[\128-\255]") and not utf8_len(value) then return nil end
  return (gsub(value, '[%c"\\]', ESCAPES or escapes()))
end

-- Printable ASCII but for the quote and the backslash, the likeliest characters first.
local PLAIN = "^[_-~ #-Z!%[%]^]*$"

local function flush()
  n_chunks = n_chunks + 1
  chunks[n_chunks] = concat(out, "", 1, n)
  n = 0
end

local encode_table

-- Writes a value that is not a table; `key` is where it is in the container at `depth`.
local function encode_scalar(value, depth, key)
  local kind = type(value)
  if kind == "string" then
    if not find(value, PLAIN) then
      value = escape(value)
      if not value then
        path[depth] = key
        refuse(depth, "is a string JSON cannot hold (not valid UTF-8)")
      end
    end
    if #value > 1000 then -- not copied once more just for its quotes
      out[n + 1], out[n + 2], out[n + 3] = '"', value, '"'
      n = n + 3
      return
    end
    value = '"' .. value .. '"'
  elseif kind == "number" then
    if math_type(value) == "float" then
      if value ~= value or value == huge or value == -huge then
        path[depth] = key
        refuse(depth, format("is not a number JSON can hold (%s)", value ~= value and "NaN" or value > 0 and "infinity" or "-infinity"))
      end
      local short = tostring(value) -- 14 digits, and ".0" for a whole number
      if tonumber(short) ~= value then
        short = format("%.16g", value)
        if tonumber(short) ~= value then short = format("%.17g", value) end
        -- 1e15 and more as 16 or 17 plain digits would come back as an integer
        if not find(short, "[.e]") then short = short .. ".0" end
      end
      value = short
    end
  elseif kind == "boolean" then
    value = value and "true" or "false"
  elseif kind == "nil" then
    value = "null"
  else
    path[depth] = key
    refuse(depth, "is a " .. kind .. ", which JSON cannot hold")
  end
  n = n + 1
  out[n] = value
end

local function encode_list(list, depth)
  -- Keys must be 1…length. Looking first costs little and saves undoing.
  local length, loose = 0, false
  for key in next, list do
    length = length + 1
    if key ~= length then
      loose = true
      break
    end
  end
  if loose then
    length = 0
    local count = 0
    for key in next, list do
      if math_type(key) ~= "integer" then
        refuse(depth - 1, "is a list that also has the key " .. (type(key) == "string" and format('"%s"', sub(key, 1, 100)) or "of type " .. type(key)))
      elseif key < 1 then
        refuse(depth - 1, format("is a list with the index %d; lists start at 1", key))
      end
      count = count + 1
      if key > length then length = key end
    end
    if length > 2 * count + 10 then
      refuse(depth - 1, format("is a sparse list: %d values, the last at index %d", count, length))
    end
  end
  local before = "["
  for i = 1, length do
    local value
    if loose then value = rawget(list, i) else value = list[i] end
    n = n + 1
    out[n] = before
    before = ","
    if type(value) == "table" then
      path[depth] = i
      encode_table(value, depth + 1)
    else
      encode_scalar(value, depth, i)
    end
    if n > flush_at then flush() end
  end
  n = n + 1
  out[n] = "]"
end

-- ',"key":' for each of the sorted keys.
local function prefixes(keys, depth)
  local list = {}
  for i, key in ipairs(keys) do
    local text_of_key = key
    if not find(key, PLAIN) then
      text_of_key = escape(key)
      if not text_of_key then refuse(depth - 1, "has a key JSON cannot hold (not valid UTF-8)") end
    end
    list[i] = (i == 1 and '{"' or ',"') .. text_of_key .. '":'
  end
  return list
end

local function sorted_keys(object, depth, nulls)
  local keys, count = {}, 0
  for key in next, object do
    if type(key) ~= "string" then
      refuse(depth - 1, "is an object with a key that is no string (" .. type(key) .. "): JSON has lists 1…n and objects with names, not both")
    end
    count = count + 1
    keys[count] = key
  end
  if nulls then
    for key in next, nulls do
      if rawget(object, key) == nil then
        count = count + 1
        keys[count] = key
      end
    end
  end
  sort(keys)
  return keys, count
end

-- Objects in one list mostly have the same keys in the same order, so the last sorting is kept and checked first.
local function shape_of(object, first, depth)
  local shape = shapes[first]
  if shape then
    local i = 0
    for key in next, object do
      i = i + 1
      if shape[i] ~= key then
        i = -1
        break
      end
    end
    if i == shape.count then return shape end
  end
  local keys, count = sorted_keys(object, depth)
  local made = {count = count, keys = keys, prefixes = prefixes(keys, depth)}
  if count <= 64 then
    if not shape then
      if n_shapes >= 100 then shapes, n_shapes = {}, 0 end
      n_shapes = n_shapes + 1
    end
    local i = 0
    for key in next, object do
      i = i + 1
      made[i] = key
    end
    shapes[first] = made
  end
  return made
end

local function encode_object(object, depth, first, nulls)
  local keys, before, count
  if nulls then
    keys, count = sorted_keys(object, depth, nulls)
    before = prefixes(keys, depth)
  else
    local shape = shape_of(object, first, depth)
    keys, before, count = shape.keys, shape.prefixes, shape.count
  end
  for i = 1, count do
    local key = keys[i]
    local value
    if nulls then value = rawget(object, key) else value = object[key] end
    n = n + 1
    out[n] = before[i]
    if type(value) == "table" then
      path[depth] = key
      encode_table(value, depth + 1)
    else
      encode_scalar(value, depth, key)
    end
    if n > flush_at then flush() end
  end
  n = n + 1
  out[n] = count == 0 and "{}" or "}"
end

local function is_list(value)
  local meta = metatable_of(value)
  return meta and (MARKS[meta] or listed[value])
end

-- `depth` is the level of this table: 1 for the outermost.
function encode_table(value, depth)
  if IS_NULL[value] then
    n = n + 1
    out[n] = "null"
    return
  end
  if depth > deepest then
    stack[depth] = value
    for lower = 2, depth do
      for upper = 1, lower - 1 do
        if rawequal(stack[upper], stack[lower]) then refuse(lower - 1, "contains itself (a cycle)") end
      end
    end
    refuse(depth - 1, "is nested deeper than " .. DEEPEST .. " levels")
  end
  stack[depth] = value
  local first = next(value)
  if is_list(value) then
    if first == nil then
      n = n + 1
      out[n] = "[]"
      return
    end
    return encode_list(value, depth)
  end
  if math_type(first) then return encode_list(value, depth) end
  local nulls = null_keys[value]
  if first == nil and not nulls then
    n = n + 1
    out[n] = "{}"
    return
  end
  return encode_object(value, depth, first, nulls)
end

local function begin(name, pieces)
  out, n, chunks, n_chunks, flush_at = {}, 0, {}, 0, pieces
  path, stack, shapes, n_shapes, root = {}, {}, {}, 0, name
end

local function encode_value(value, levels)
  if type(value) == "table" then
    deepest = levels
    return encode_table(value, 1)
  end
  return encode_scalar(value, 0, nil)
end

-- The value as JSON text, in pieces. Raises a string that names the place of what JSON cannot hold.
local function encode_pieces(value, name, levels)
  begin(name, 4000)
  encode_value(value, levels)
  flush()
  out = nil
  return chunks
end

-- Whether that went well, and the text or the message. May be called while something else is being written: `evaluate`
-- writes row by row, and an expression may call json.encode.
local function encode_text(value, name)
  local o, k, c, kc, f, p, s, sh, ks, r = out, n, chunks, n_chunks, flush_at, path, stack, shapes, n_shapes, root
  local ok, pieces = pcall(encode_pieces, value, name, DEEPEST)
  out, n, chunks, n_chunks, flush_at, path, stack, shapes, n_shapes, root = o, k, c, kc, f, p, s, sh, ks, r
  if ok then return true, concat(pieces) end
  return false, pieces
end

-- 3. SHA-256, and what stands on it -----------------------------------------------------------------------------

-- Parts that few calls need are loaded by those. They get what they work with from here: by then a script may have
-- changed the tables of the libraries.
local function part(code, ...)
  local chunk, problem = load(code, "=box", "b")
  if not chunk then error(problem, 0) end
  return chunk(...)
end

local sha256_loaded

local function sha256(message)
  sha256_loaded = sha256_loaded or part(SHA256, char, format, gsub, rep, sub, pack, unpack_bytes, tonumber)
  return sha256_loaded(message)
end

local entropy, ids = "", 0 -- 48 random bytes from the host: 32 for uuid, 16 for math.random

local function uuid()
  ids = ids + 1
  local hex = sha256(sub(entropy, 1, 32) .. pack(">I8", ids))
  return format("%s-%s-4%s-%x%s-%s", sub(hex, 1, 8), sub(hex, 9, 12), sub(hex, 14, 16),
    8 | tonumber(sub(hex, 17, 17), 16) & 3, sub(hex, 18, 20), sub(hex, 21, 32))
end

-- 4. The script's world -------------------------------------------------------------------------------------------

local started_ms, started_clock = 0, 0

local function describe(problem)
  local kind = type(problem)
  if kind == "string" then return problem end
  if kind == "table" then
    local message = rawget(problem, "message")
    if type(message) == "string" then return message end
    local ok, json = encode_text(problem, "error")
    return ok and json or "an error that is a table"
  end
  if kind == "function" or kind == "thread" or kind == "userdata" then return "an error that is a " .. kind end
  return tostring(problem)
end

-- Raises `problem` as an error of the script's line that called the box.
local function blame(problem)
  if problem == MEMORY then error(problem, 0) end
  error(problem, 3)
end

local function json_encode(value)
  local ok, result = encode_text(value, "the value")
  if ok then return result end
  if result == MEMORY then error(result, 0) end
  blame("json.encode: " .. result)
end

local function json_decode(source)
  if type(source) ~= "string" then blame("json.decode: a string is needed, not " .. type(source)) end
  local ok, value = pcall(decode, source, DEEPEST)
  if ok then return value end
  if value == MEMORY then error(value, 0) end
  blame("json.decode: " .. value)
end

local lines, n_lines, dropped = {}, 0, 0
local MOST_LINES, LONGEST_LINE = 200, 2000

local function log(...)
  if n_lines >= MOST_LINES then
    dropped = dropped + 1
    return
  end
  local words, count = {...}, select("#", ...)
  for i = 1, count do
    local word = words[i]
    if type(word) == "table" then
      local ok, json = encode_text(word, "the value")
      if not ok and json == MEMORY then error(json, 0) end
      word = ok and json or "(a table: " .. json .. ")"
    elseif type(word) ~= "string" then
      word = tostring(word)
    end
    words[i] = sub(word, 1, LONGEST_LINE + 1)
  end
  local line = concat(words, " ", 1, count)
  if #line > LONGEST_LINE then line = sub(line, 1, LONGEST_LINE) .. "…" end
  n_lines = n_lines + 1
  lines[n_lines] = line
end

-- The lines for the host: each with its length before it, since they may hold anything.
local function packed_log()
  if n_lines == 0 then return "" end
  if dropped > 0 then lines[n_lines + 1] = format("(%d more lines were dropped)", dropped) end
  for i = 1, #lines do lines[i] = pack("<s4", lines[i]) end
  return concat(lines)
end

local function set_metatable(value, meta)
  if type(value) ~= "table" then blame("setmetatable: a table is needed, not " .. type(value)) end
  if meta ~= nil and type(meta) ~= "table" then blame("setmetatable: the metatable must be a table or nil, not " .. type(meta)) end
  if IS_NULL[value] then blame("null cannot be changed") end
  local present = metatable_of(value)
  if rawequal(present, DATA) then blame("the metatable of data cannot be changed") end
  if meta then
    if rawget(meta, "__gc") ~= nil then blame("setmetatable: __gc (a finaliser) is not available here") end
    if IS_NULL[meta] then blame("null cannot be a metatable") end
  end
  if rawequal(present, LIST) then
    if meta == nil then return value end
    listed[value] = true
    return replace_metatable(value, meta)
  end
  if present and rawget(present, "__metatable") ~= nil then blame("cannot change a protected metatable") end
  if meta == nil and listed[value] then meta = LIST end -- its own metatable goes, the list stays one
  return setmetatable(value, meta)
end

local function get_metatable(value)
  if type(value) ~= "table" then return nil end -- those of strings and the like are the host's
  local meta = metatable_of(value)
  if not meta or IS_NULL[value] or MARKS[meta] then return nil end
  local shown = rawget(meta, "__metatable")
  if shown ~= nil then return shown end
  return meta
end

local function raw_set(value, key, new)
  if type(value) ~= "table" then blame("rawset: a table is needed, not " .. type(value)) end
  if IS_NULL[value] then blame("null cannot be changed") end
  if key == nil then blame("rawset: the index is nil") end
  if key ~= key then blame("rawset: the index is NaN") end
  return rawset(value, key, new)
end

local function array(list)
  if list == nil then list = {} end
  if type(list) ~= "table" or IS_NULL[list] then blame("array: a table is needed, as in array{1, 2}") end
  local meta = metatable_of(list)
  if not meta then
    setmetatable(list, LIST)
  elseif not MARKS[meta] then
    listed[list] = true
  end
  return list
end

-- `data.score` is `data[1].score`, to read and to write.
function DATA.__index(data, key)
  if type(key) == "number" then return nil end
  local first = rawget(data, 1)
  if type(first) == "table" then return rawget(first, key) end
  return nil
end

function DATA.__newindex(data, key, value)
  if type(key) == "number" then
    rawset(data, key, value)
    return
  end
  local first = rawget(data, 1)
  if type(first) ~= "table" or IS_NULL[first] or is_list(first) then
    blame(format("data.%s cannot be set: the first item is not an object", tostring(key)))
  end
  rawset(first, key, value)
end

local function now()
  local ms = started_ms + floor((clock() - started_clock) * 1000)
  return format("%s.%03dZ", os_date("!%Y-%m-%dT%H:%M:%S", ms // 1000), ms % 1000)
end

-- The process has TZ=UTC, so local time is UTC and `os.time{...}` reads its fields as UTC.
local function date(pattern, seconds)
  if pattern == nil then pattern = "%c" end
  if type(pattern) ~= "string" then blame("date: the format must be a string, not " .. type(pattern)) end
  local ok, result
  if seconds == nil then ok, result = pcall(os_date, pattern) else ok, result = pcall(os_date, pattern, seconds) end
  if ok then return result end
  blame((gsub(result, "^bad argument #(%d) to '%?' ", "date: bad argument #%1 ")))
end

local function hash(value)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then blame("hash: a string is needed, not " .. type(value)) end
  return sha256(value)
end

local env = {
  assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, pcall = pcall, rawequal = rawequal, rawget = rawget,
  rawlen = rawlen, rawset = raw_set, select = select, tonumber = tonumber, tostring = tostring, type = type, xpcall = xpcall,
  getmetatable = get_metatable, setmetatable = set_metatable,
  coroutine = coroutine, math = math, string = string, table = table, utf8 = utf8,
  os = {clock = function() return clock() - started_clock end, date = date, difftime = os_difftime, time = os_time},
  json = {decode = json_decode, encode = json_encode},
  array = array, date = date, hash = hash, log = log, now = now, null = NULL, print = log, time = os_time, uuid = uuid,
}
env._G = env

-- 5. The three calls ----------------------------------------------------------------------------------------------

-- How the sandbox says which part of the work ran out of memory.
local stage

-- "name:3: text" as "line 3: text".
local function with_line(problem, name)
  local text_of_problem = sub(describe(problem), 1, 2000)
  local prefix = name .. ":"
  if sub(text_of_problem, 1, #prefix) == prefix then
    local line, message = match(text_of_problem, "^(%d+): (.*)$", #prefix + 1)
    if line then return format("line %s: %s", line, message), line, message end
  end
  return text_of_problem, nil, text_of_problem
end

local function compile(source, name, world)
  local chunk, problem = load("return " .. source, "=" .. name, "t", world)
  if chunk then return chunk end
  if problem == MEMORY then error(problem, 0) end
  chunk, problem = load(source, "=" .. name, "t", world)
  if chunk then return chunk end
  error(problem, 0)
end

local function set_out(now_ms, random)
  entropy = random
  randomseed(unpack_bytes("<i8i8", random, 33))
  started_ms, started_clock = tonumber(now_ms), clock()
end

local function run(source, name, items, context, now_ms, random)
  set_out(now_ms, random)
  stage = "input"
  local data = replace_metatable(decode(items, DEEPEST + 1), DATA)
  local first = rawget(data, 1)
  env.data, env.item = data, first
  items = nil
  local around = decode(context, DEEPEST + 2)
  env.query, env.headers, env.path, env.run = around.query, around.headers, around.path, around.run
  stage = "script"
  local result = compile(source, name, env)()
  stage = "result"
  -- A list of items may be one level deeper than an item.
  local levels = DEEPEST
  if type(result) == "table" and (is_list(result) or math_type(next(result))) then levels = levels + 1 end
  return encode_pieces(result, "result", levels)
end

local function expression(source, parameters, name)
  local names = {}
  for i = 1, parameters do names[i] = "p" .. i end
  local head = parameters > 0 and "local " .. concat(names, ",") .. " = ... return " or "return "
  local chunk, problem = load(head .. source, "=expression", "t", env)
  if chunk then return chunk end
  if problem == MEMORY then error(problem, 0) end
  return function() error(problem, 0) end
end

local function one_row(row, chunks_of_row, counts, at)
  local separator = "["
  for e = 1, #chunks_of_row do
    at[1] = e
    local arguments = row[e]
    local count = counts[e]
    for i = 1, count do
      if IS_NULL[arguments[i]] then arguments[i] = nil end
    end
    local value = chunks_of_row[e](unpack(arguments, 1, count))
    n = n + 1
    out[n] = separator
    separator = ","
    encode_value(value, DEEPEST)
  end
  n = n + 1
  out[n] = "]"
end

local function evaluate(sources, rows, now_ms, random)
  set_out(now_ms, random)
  stage = "input"
  local all = decode(sources, DEEPEST)
  local list = decode(rows, DEEPEST + 3)
  rows = nil
  stage = "script"
  local compiled, counts, names, at = {}, {}, {}, {}
  for e, one in ipairs(all) do
    compiled[e], counts[e], names[e] = expression(one[1], one[2], one[3]), one[2], one[3]
  end
  begin("the value", huge)
  n = 1
  out[1] = "["
  for r = 1, #list do
    if r > 1 then
      n = n + 1
      out[n] = ","
    end
    local before = n
    local ok, problem = pcall(one_row, list[r], compiled, counts, at)
    list[r] = false -- let its memory go
    if not ok then
      n = before
      local name = names[at[1]]
      local message
      if problem == MEMORY then
        message = problem
      else
        local _, line, plain = with_line(problem, "expression")
        message = line and line ~= "1" and format("%s, line %s: %s", name, line, plain) or name .. ": " .. plain
      end
      message = escape(message) or escape((gsub(message, "[\128-\255]", "?")))
      n = n + 1
      out[n] = '"' .. message .. '"'
    end
    if n > 4000 then flush() end
  end
  n = n + 1
  out[n] = "]"
  flush()
  return chunks
end

local function check(packed)
  stage = "script"
  return part(CHECK, load, find, concat, pack, unpack_bytes, tonumber, env, MEMORY, with_line)(packed)
end

local calls = {run = run, evaluate = evaluate, check = check}

-- status ("ok", "error", "memory"), the log, then the pieces of the answer or the message.
return function(call, ...)
  local name = call == "run" and select(2, ...) or "expression"
  local ok, answer = pcall(calls[call], ...)
  if not ok then
    out, chunks, env, text = nil, nil, nil, nil
    if answer == MEMORY then return "memory", "", stage end
  end
  local done, record = pcall(packed_log)
  if not done then record = "" end
  if ok then
    local unpacked = #answer < 1000 and answer or {concat(answer)}
    return "ok", record, unpack(unpacked)
  end
  local described, message = pcall(with_line, answer, name)
  if not described then return "memory", "", stage end
  if stage == "input" then message = "the input cannot be read: " .. message end
  return "error", record, message
end
