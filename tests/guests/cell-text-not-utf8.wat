;; Writes text that is no UTF-8.
;; expect: no UTF-8 text: `\xff`
(data (i32.const 24576) "\ff")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 4) (i32.const 1) (i32.const 1)))
