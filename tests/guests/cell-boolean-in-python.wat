;; Writes `True`.
;; expect: no `true` or `false`: `True`
(data (i32.const 24576) "True")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 2) (i32.const 4) (i32.const 4)))
