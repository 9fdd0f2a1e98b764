-- Why a value cannot be written as JSON, in words, with the place where it stands; or, for a list that is only out of
-- order, how long it is.

local concat, error, find, format, math_type, next, rawequal, sub, type = ...

local function place(root, path, depth)
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


local function sparse_length(list, refuse)
  local length, count = 0, 0
  for key in next, list do
    if math_type(key) ~= "integer" then
      refuse("is a list that also has the key " .. (type(key) == "string" and format('"%s"', sub(key, 1, 100)) or "of type " .. type(key)))
    elseif key < 1 then
      refuse(format("is a list with the index %d; lists start at 1", key))
    end
    count = count + 1
    if key > length then length = key end
  end
  if length > 2 * count + 10 then
    refuse(format("is a sparse list: %d values, the last at index %d", count, length))
  end
  return length
end

return function(root, path, depth, what, value)
  local function refuse(sentence, level)
    error(place(root, path, level or depth) .. " " .. sentence, 0)
  end
  if what == "loose" then return sparse_length(value, refuse) end
  if what == "text" then refuse("is a string JSON cannot hold (not valid UTF-8)") end
  if what == "number" then
    refuse(format("is not a number JSON can hold (%s)", value ~= value and "NaN" or value > 0 and "infinity" or "-infinity"))
  end
  if what == "kind" then refuse("is a " .. type(value) .. ", which JSON cannot hold") end
  if what == "key" then refuse("has a key JSON cannot hold (not valid UTF-8)") end
  if what == "mixed" then
    refuse("is an object with a key that is no string (" .. type(value) .. "): JSON has lists 1…n and objects with names, not both")
  end
  for lower = 2, depth do -- too deep: `value` holds the tables on the way
    for upper = 1, lower - 1 do
      if rawequal(value[upper], value[lower]) then refuse("contains itself (a cycle)", lower - 1) end
    end
  end
  refuse("is nested deeper than 100 levels", depth - 1)
end
