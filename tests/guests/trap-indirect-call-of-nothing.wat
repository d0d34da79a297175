;; Calls an entry of a table where nothing is.
;; expect: uninitialized element
(table $functions 1 funcref)
(func $on_null (param $row i32)
  (call_indirect $functions (i32.const 0)))
