;; Rejects a row with a detail that is no UTF-8.
;; expect: utf-8
(data (i32.const 24576) "a\ff")
(func $on_null (param $row i32) (call $reject (local.get $row) (i32.const 0) (global.get $scratch) (i32.const 2)))
