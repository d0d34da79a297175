;; Logs at a level that there is not.
;; expect: unexpected discriminant: 9
(func $on_null (param $row i32) (call $log (i32.const 9) (global.get $scratch) (i32.const 1)))
