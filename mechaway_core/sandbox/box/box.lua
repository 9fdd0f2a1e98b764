-- The box: the way into a script and out of it, and what every script needs.
--
-- One Lua runtime lives for one call. The worker loads this file into it, calls the function it returns once, with
-- bytes in and bytes out, and throws the runtime away. Every call pays for what is in here; what only some need is in
-- parts, files beside this one that are handed over as bytecode and loaded by the call that needs them. In order:
--   1. what the box itself needs, taken before any script can change it; parts
--   2. JSON: decode, encode
--   3. the script's world
--   4. the three calls: run, evaluate, check
--
-- Rules that keep a script in: the script's globals are not the real ones; `debug`, `load` and their like are reachable
-- only from locals in here; nothing in here looks into a script's table except with next, rawget and rawlen, or at a
-- key known to be there, so no metamethod of a script ever runs on the host's behalf; everything happens inside one
-- pcall, under the memory limit and under the timer of the worker.

local CHECK, ESCAPED, EVALUATE, REFUSE, SHA256, TROUBLE, WORLD = ... -- the parts, as bytecode

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

-- A part is given what it works with: by the time it is loaded, a script may have changed the tables of the libraries.
local function part(code, ...)
  local chunk, problem = load(code, "=box", "b")
  if not chunk then error(problem, 0) end
  return chunk(...)
end

-- 2. JSON ---------------------------------------------------------------------------------------------------------

-- What JSON has and Lua has not. `null` is a table nobody can change; lists carry a metatable nobody can see; an object
-- remembers which of its keys were null, and writes them again while they are still absent.
local NULL = setmetatable({}, {
  __metatable = false, __name = "null",
  __tostring = function() return "null" end,
  __newindex = function() error("null cannot be changed", 2) end,
})
local LIST = {__metatable = false}
local DATA = {__metatable = false} -- the list `data`; its reading and writing of fields is in part 3
-- Looked up instead of compared: == would call a script's __eq, a table's key never does.
local IS_NULL, MARKS = {[NULL] = true}, {[LIST] = true, [DATA] = true}
local listed = setmetatable({}, {__mode = "k"})    -- lists that also have a metatable of the script's own
local null_keys = setmetatable({}, {__mode = "k"}) -- object → {key = true}

local text, dirty, deepest -- what is being decoded; whether it has backslashes or control characters; levels allowed

local function fail(position, what)
  error(format("%s at byte %d", what, position), 0)
end

local unescape -- gives the string that starts at a position (after its quote) of a text with backslashes, and where it ends

local function decode_string(position)
  local close = find(text, '"', position + 1, true)
  if not close then fail(position, "a string does not end, it starts") end
  local value = sub(text, position + 1, close - 1)
  if dirty and find(value, "[%c\\]") then
    unescape = unescape or part(ESCAPED, byte, concat, fail, find, match, sub, tonumber, utf8_char)
    return unescape(text, position + 1)
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
-- Raises what is wrong with the value at this depth, with the place where it stands.
local function refuse(depth, what, value)
  return part(REFUSE, concat, error, find, format, math_type, next, rawequal, sub, type)(root, path, depth, what, value)
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
        refuse(depth, "text")
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
        refuse(depth, "number", value)
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
    refuse(depth, "kind", value)
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
  if loose then length = refuse(depth - 1, "loose", list) end
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
      if not text_of_key then refuse(depth - 1, "key") end
    end
    list[i] = (i == 1 and '{"' or ',"') .. text_of_key .. '":'
  end
  return list
end

local function sorted_keys(object, depth, nulls)
  local keys, count = {}, 0
  for key in next, object do
    if type(key) ~= "string" then
      refuse(depth - 1, "mixed", key)
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
    refuse(depth, "deep", stack)
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

-- 3. The script's world -------------------------------------------------------------------------------------------

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
    error(format("data.%s cannot be set: the first item is not an object", tostring(key)), 2)
  end
  rawset(first, key, value)
end

-- What is missing here is in the part WORLD. A script that does not name any of it cannot tell the difference: there is
-- no way to a global but by its name, `_G` or `_ENV`, and the host looks for those.
local env = {
  assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, pcall = pcall, rawequal = rawequal, rawget = rawget,
  rawlen = rawlen, select = select, tonumber = tonumber, tostring = tostring, type = type, xpcall = xpcall,
  coroutine = coroutine, math = math, string = string, table = table, utf8 = utf8, null = NULL,
}

local packed_log -- gives the lines of the log for the host; nil while nothing can write any

local function furnish(now_ms, random)
  packed_log = part(WORLD, env, now_ms, random, {
    DATA = DATA, IS_NULL = IS_NULL, LIST = LIST, MARKS = MARKS, MEMORY = MEMORY, SHA256 = SHA256, DEEPEST = DEEPEST,
    char = char, clock = clock, concat = concat, decode = decode, encode_text = encode_text, error = error, floor = floor, format = format, gsub = gsub,
    listed = listed, metatable_of = metatable_of, os_date = os_date, os_difftime = os_difftime,
    os_time = os_time, pack = pack, part = part, pcall = pcall, rawequal = rawequal,
    rawget = rawget, rawset = rawset, rep = rep, replace_metatable = replace_metatable, select = select, setmetatable = setmetatable,
    sub = sub, tonumber = tonumber, tostring = tostring, type = type, unpack_bytes = unpack_bytes,
  })
end

-- 4. The three calls ----------------------------------------------------------------------------------------------

-- How the sandbox says which part of the work ran out of memory.
local stage

local function compile(source, name, world)
  local chunk, problem = load("return " .. source, "=" .. name, "t", world)
  if chunk then return chunk end
  if problem == MEMORY then error(problem, 0) end
  chunk, problem = load(source, "=" .. name, "t", world)
  if chunk then return chunk end
  error(problem, 0)
end

local function begin_call(world, now_ms, random) -- `world` is empty when the whole of it is not needed
  randomseed(unpack_bytes("<i8i8", random, 33))
  if world ~= "" then furnish(now_ms, random) end
end

local function run(source, name, items, context, world, now_ms, random)
  begin_call(world, now_ms, random)
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

-- What went wrong, for people: "name:3: text" as "line 3: text"; then the line, if there is one, and the text alone.
local function with_line(problem, name)
  return part(TROUBLE, encode_text, find, format, match, rawget, sub, tostring, type)(problem, name)
end

local function evaluate(sources, rows, world, now_ms, random)
  begin_call(world, now_ms, random)
  stage = "input"
  local all, list = decode(sources, DEEPEST), decode(rows, DEEPEST + 3)
  rows = nil
  stage = "script"
  return part(EVALUATE, {
    IS_NULL = IS_NULL, MEMORY = MEMORY, concat = concat, env = env, error = error, escape = escape, format = format, gsub = gsub,
    ipairs = ipairs, load = load, pcall = pcall, unpack = unpack, with_line = with_line,
    begin = function() begin("the value", huge) end,
    write = function(value) encode_value(value, DEEPEST) end,
    put = function(piece)
      n = n + 1
      out[n] = piece
    end,
    mark = function() return n end,
    go_back = function(mark) n = mark end,
    flush = flush,
    pieces = function() return chunks end,
  })(all, list)
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
  local record = ""
  if packed_log then
    local done, lines = pcall(packed_log)
    if done then record = lines end
  end
  if ok then
    local unpacked = #answer < 1000 and answer or {concat(answer)}
    return "ok", record, unpack(unpacked)
  end
  local described, message = pcall(with_line, answer, name)
  if not described then return "memory", "", stage end
  if stage == "input" then message = "the input cannot be read: " .. message end
  return "error", record, message
end
