;; Calls past the end of a table.
;; expect: undefined element: out of bounds table access
(table $functions 1 funcref)
(func $on_null (param $row i32)
  (call_indirect $functions (i32.const 7)))
