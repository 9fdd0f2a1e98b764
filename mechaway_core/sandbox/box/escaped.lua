-- Strings of JSON with backslashes in them.

local byte, concat, fail, find, match, sub, tonumber, utf8_char = ...

local UNESCAPED = {
  [34] = '"', [47] = "/", [92] = "\\", [98] = "\b", [102] = "\f", [110] = "\n", [114] = "\r", [116] = "\t",
}

return function(text, position)
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
