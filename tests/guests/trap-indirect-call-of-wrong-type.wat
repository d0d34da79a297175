;; Calls a function as if it took what it does not take.
;; expect: indirect call type mismatch
(table $functions funcref (elem $on_null))
(func $on_null (param $row i32)
  (drop (call_indirect $functions (result i64) (i32.const 0))))
